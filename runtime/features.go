package runtime

import (
	"encoding/json"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"github.com/urfave/cli/v2"

	"adl.run/adl-runtime/libsandbox/security"
)

// mountOptions are the names that package compile takes for itself; every other
// option goes to the file system. In the alphabet's order.
const mountOptions = `acl async atime bind defaults dev diratime dirsync exec iversion lazytime loud
mand noacl noatime nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime
nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec rnoatime rnodev
rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw
rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid
symfollow sync tmpcopyup unbindable`

func (a *app) features() *cli.Command {
	return &cli.Command{
		Name:      "features",
		Usage:     "show the enabled features",
		ArgsUsage: " ",
		Description: "Show the enabled features, as JSON:\n" +
			"https://github.com/opencontainers/runtime-spec/blob/main/features.md",
		Action: a.doFeatures,
	}
}

func (a *app) doFeatures(c *cli.Context) error {
	if err := a.checkArgs(c, 0, 0); err != nil {
		return err
	}
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "    ")
	return enc.Encode(supported())
}

// supported is what this runtime knows, whatever the host has. What spec.Validate
// refuses is false here, not left out: left out would mean unknown.
func supported() *features.Features {
	yes, no := new(true), new(false)
	v, commit := buildVersion()
	f := &features.Features{
		OCIVersionMin: "1.0.0",
		OCIVersionMax: specs.Version,
		Hooks:         []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"},
		MountOptions:  strings.Fields(mountOptions),
		Annotations:   map[string]string{"run.adl.version": v},
		Linux: &features.Linux{
			Namespaces:      []string{"cgroup", "ipc", "mount", "network", "pid", "uts"},
			Capabilities:    security.Capabilities(),
			Cgroup:          &features.Cgroup{V1: yes, V2: yes, Systemd: no, SystemdUser: no, Rdma: no},
			Seccomp:         &features.Seccomp{Enabled: no},
			Apparmor:        &features.Apparmor{Enabled: no},
			Selinux:         &features.Selinux{Enabled: no},
			IntelRdt:        &features.IntelRdt{Enabled: no},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: no}},
			NetDevices:      &features.NetDevices{Enabled: no},
		},
	}
	if commit != "" {
		f.Annotations["run.adl.commit"] = commit
	}
	return f
}
