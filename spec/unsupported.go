package spec

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// unsupported refuses what this runtime does not do, because a container that
// silently lacks a part of its configuration is worse than none. To support
// something, delete its line. It runs after checkPresent.
func unsupported(s *specs.Spec) error {
	if err := unsupportedProcess(s.Process); err != nil {
		return err
	}
	return refuse([]refusal{
		{s.VM != nil, "vm", "virtual machines are not supported"},
		{s.Windows != nil, "windows", "only Linux is supported"},
		{s.Solaris != nil, "solaris", "only Linux is supported"},
		{s.ZOS != nil, "zos", "only Linux is supported"},
		{s.FreeBSD != nil, "freebsd", "only Linux is supported"},
	})
}

// refusal is a field that must not be set.
type refusal struct {
	set         bool
	field, what string
}

func refuse(list []refusal) error {
	for _, f := range list {
		if f.set {
			return fmt.Errorf("%s: %s", f.field, f.what)
		}
	}
	return nil
}

func unsupportedProcess(p *specs.Process) error {
	return refuse([]refusal{
		{p.CommandLine != "", "process.commandLine", "only Windows has it, use process.args"},
		{p.User.Username != "", "process.user.username", "only Windows has it, use process.user.uid"},
	})
}
