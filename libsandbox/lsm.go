package libsandbox

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// checkLabels refuses an AppArmor profile and an SELinux label of a process on a host
// that would not enforce them.
func checkLabels(p *specs.Process) error {
	switch {
	case p.ApparmorProfile != "" && !apparmor():
		return fmt.Errorf("process.apparmorProfile %q: AppArmor is not enabled on this host", p.ApparmorProfile)
	case p.SelinuxLabel != "" && !selinux():
		return fmt.Errorf("process.selinuxLabel %q: SELinux is not enabled on this host", p.SelinuxLabel)
	}
	return nil
}

func apparmor() bool {
	var buf [1]byte
	n, err := kernel.ReadFile("/sys/module/apparmor/parameters/enabled", buf[:])
	return err == nil && n == 1 && buf[0] == 'Y'
}

func selinux() bool {
	var fs unix.Statfs_t
	return unix.Statfs("/sys/fs/selinux", &fs) == nil && fs.Type == unix.SELINUX_MAGIC
}
