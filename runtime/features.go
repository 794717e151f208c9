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
const mountOptions = `acl async atime bind defaults dev diratime dirsync exec idmap iversion lazytime loud
mand noacl noatime nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime
nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec ridmap rnoatime rnodev
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
			Namespaces:      []string{"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"},
			Capabilities:    security.Capabilities(),
			Cgroup:          &features.Cgroup{V1: yes, V2: yes, Systemd: yes, SystemdUser: no, Rdma: yes},
			Seccomp:         seccompFeatures(),
			Apparmor:        &features.Apparmor{Enabled: yes},
			Selinux:         &features.Selinux{Enabled: yes},
			IntelRdt:        &features.IntelRdt{Enabled: yes, Schemata: yes, Monitoring: yes},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: yes}},
			NetDevices:      &features.NetDevices{Enabled: yes},
			MemoryPolicy: &features.MemoryPolicy{
				Modes: strings.Fields("MPOL_BIND MPOL_DEFAULT MPOL_INTERLEAVE MPOL_LOCAL MPOL_PREFERRED MPOL_PREFERRED_MANY MPOL_WEIGHTED_INTERLEAVE"),
				Flags: strings.Fields("MPOL_F_NUMA_BALANCING MPOL_F_RELATIVE_NODES MPOL_F_STATIC_NODES"),
			},
		},
		// A user who may write these has systemd do things on the host.
		PotentiallyUnsafeConfigAnnotations: []string{"org.systemd.property."},
	}
	if commit != "" {
		f.Annotations["run.adl.commit"] = commit
	}
	return f
}

// seccompFeatures says what package seccomp compiles. A profile may name more
// architectures, which have no effect on the ones that this binary is for.
func seccompFeatures() *features.Seccomp {
	return &features.Seccomp{
		Enabled: new(true),
		Actions: strings.Fields(`SCMP_ACT_ALLOW SCMP_ACT_ERRNO SCMP_ACT_KILL SCMP_ACT_KILL_PROCESS SCMP_ACT_KILL_THREAD
			SCMP_ACT_LOG SCMP_ACT_NOTIFY SCMP_ACT_TRACE SCMP_ACT_TRAP`),
		Operators:      strings.Fields("SCMP_CMP_EQ SCMP_CMP_GE SCMP_CMP_GT SCMP_CMP_LE SCMP_CMP_LT SCMP_CMP_MASKED_EQ SCMP_CMP_NE"),
		Archs:          strings.Fields("SCMP_ARCH_AARCH64 SCMP_ARCH_ARM SCMP_ARCH_X32 SCMP_ARCH_X86 SCMP_ARCH_X86_64"),
		KnownFlags:     seccompFlags(),
		SupportedFlags: seccompFlags(),
	}
}

func seccompFlags() []string {
	return strings.Fields(`SECCOMP_FILTER_FLAG_TSYNC SECCOMP_FILTER_FLAG_SPEC_ALLOW SECCOMP_FILTER_FLAG_LOG
		SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`)
}
