package main

import (
	"errors"
	"slices"
)

// The operations inside a running container.
const (
	opExec     = "exec"      // /bin/true
	opExecUser = "exec-user" // the same where the container has a user namespace
	opShell    = "shell"     // a command of the shell's in a session; elsewhere a shell by exec

	stepCreateUser = "create-user" // a container with a user namespace
)

// execs is how many there are in one container.
const execs = 4

// execCycle measures exec several times in one container: managers probe the same one
// again and again.
func execCycle(create string, exec step) cycle {
	steps := []step{{create, false}, {opStart, false}}
	for range execs {
		steps = append(steps, exec)
	}
	return cycle{steps: append(steps, step{opDeleteForce, false})}
}

// shellCycle is execCycle for commands of a shell, of which the first begins the session.
func shellCycle(shell step) cycle {
	c := execCycle(opCreate, shell)
	c.steps = slices.Insert(c.steps, 2, step{shell.name, false})
	return c
}

// execCommands are the worker's, by step.
func (w *worker) execCommands(verb func(...string) []string, bundle func(string) string) map[string][]string {
	shell := verb("exec", w.id, "/bin/sh", "-c", ":")
	if w.Runtime == nameADL {
		shell = verb("shell", w.id, ":")
	}
	return map[string][]string{
		opShell:        shell,
		opExec:         verb("exec", w.id, "/bin/true"),
		opExecUser:     verb("exec", w.id, "/bin/true"),
		stepCreateUser: verb("create", "--bundle", bundle(userBundle), "--pid-file", w.pidFile(), w.id),
	}
}

// userBundle is the bundle with a user namespace. Its ids are the host's, so that the
// scratch folder may be root's alone.
const userBundle = "sleep-user"

// addUserNamespace changes a config.json.
func addUserNamespace(spec map[string]any) error {
	linux, ok := spec["linux"].(map[string]any)
	if !ok {
		return errors.New("linux: missing")
	}
	ids := []any{map[string]any{"containerID": 0, "hostID": 0, "size": 65536}}
	linux["uidMappings"], linux["gidMappings"] = ids, ids
	list, _ := linux["namespaces"].([]any)
	linux["namespaces"] = append(list, map[string]any{"type": "user"})
	return nil
}

// execTargets bound what a manager's health checks cost. They have gaps in between;
// without, the slowest part of joining a cgroup by its id does not show.
func execTargets(gapMS int64) []target {
	k := key{Op: opExec, Metric: latency, N: 1, GapMS: gapMS}
	shell := key{Op: opShell, Metric: latency, N: 1, GapMS: gapMS}
	return []target{{k, nameCrun, 0.5}, {k, nameRunc, 0.2}, {shell, nameCrun, 0.7}}
}
