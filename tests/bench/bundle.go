package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// probeStatus is the exit status of the probe's program: a runtime that starts
// nothing and exits with 0 does not pass.
const probeStatus = 7

// The scratch folder:
//
//	BASE/rootfs            busybox, shared by all containers, mounted read-only
//	BASE/spec.json         config.json as `runc spec` writes it
//	BASE/root-RUNTIME      --root
//	BASE/RUNTIME-SLOT/KIND the bundles of one worker
func rootfsDir(base string) string         { return filepath.Join(base, "rootfs") }
func templateFile(base string) string      { return filepath.Join(base, "spec.json") }
func stateDir(base, runtime string) string { return filepath.Join(base, "root-"+runtime) }

// bundleArgs maps a bundle's name to its process.args.
func bundleArgs() map[string][]string {
	return map[string][]string{
		"true":       {"/bin/true"},
		podmanBundle: {"/bin/true"},
		"sleep":      {"/bin/sleep", "1000"},
		userBundle:   {"/bin/sleep", "1000"},
		"probe":      {"/bin/sh", "-c", fmt.Sprintf("exit %d", probeStatus)},
	}
}

// makeTemplate writes BASE/spec.json: the default config.json, by whichever of
// the runtimes can make it, runc first, so that all measure the same one.
func makeTemplate(base string, paths map[string]string) error {
	var errs error
	for _, name := range []string{nameRunc, nameADL, nameCrun} {
		cmd := exec.Command(paths[name], "spec")
		cmd.Dir = base
		out, err := cmd.CombinedOutput()
		if err == nil {
			return os.Rename(filepath.Join(base, "config.json"), templateFile(base))
		}
		errs = errors.Join(errs, fmt.Errorf("%s spec: %w: %s", paths[name], err, out))
	}
	return errs
}

// makeBundles writes the bundles of one worker below dir. The default spec is
// kept but for the terminal, the program, the shared rootfs and the cgroup.
func makeBundles(base, dir, cgroup string) error {
	data, err := os.ReadFile(templateFile(base))
	if err != nil {
		return err
	}
	for kind, args := range bundleArgs() {
		var more func(spec map[string]any) error
		switch kind {
		case userBundle:
			more = addUserNamespace
		case podmanBundle:
			more = func(spec map[string]any) error { return addPodmanDefaults(base, spec) }
		}
		config, err := bundleConfig(data, args, rootfsDir(base), cgroup, more)
		if err != nil {
			return fmt.Errorf("%s: %w", templateFile(base), err)
		}
		b := filepath.Join(dir, kind)
		if err := os.MkdirAll(b, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(b, "config.json"), config, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// bundleConfig changes the four fields, and what else more changes unless it is nil. It
// works on the JSON objects, so that a field this program does not know survives.
func bundleConfig(template []byte, args []string, rootfs, cgroup string, more func(spec map[string]any) error) ([]byte, error) {
	var spec map[string]any
	if err := json.Unmarshal(template, &spec); err != nil {
		return nil, err
	}
	for section, fields := range map[string]map[string]any{
		"process": {"args": args, "terminal": false},
		"root":    {"path": rootfs},
		"linux":   {"cgroupsPath": cgroup},
	} {
		object, ok := spec[section].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s: missing", section)
		}
		for k, v := range fields {
			object[k] = v
		}
	}
	if more != nil {
		if err := more(spec); err != nil {
			return nil, err
		}
	}
	return json.MarshalIndent(spec, "", "\t")
}
