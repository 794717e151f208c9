package runtime

import (
	stdruntime "runtime"
	"runtime/debug"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Set by the linker: -X adl.run/adl-runtime/runtime.version=1.2.3. Where they
// are empty, buildVersion asks the build information; nothing else writes them.
var version, commit string

// buildVersion is this program's version and the commit it was built from;
// commit is empty if nobody knows.
func buildVersion() (v, c string) {
	v, c = version, commit
	info, ok := debug.ReadBuildInfo()
	if v == "" && ok {
		v = info.Main.Version
	}
	if v == "" {
		v = "(devel)"
	}
	for i := 0; ok && c == "" && i < len(info.Settings); i++ {
		if info.Settings[i].Key == "vcs.revision" {
			c = info.Settings[i].Value
		}
	}
	return v, c
}

// versionText is what --version prints, laid out as runc does.
func versionText() string {
	v, c := buildVersion()
	s := name + " version " + v + "\n"
	if c != "" {
		s += "commit: " + c + "\n"
	}
	return s + "spec: " + specs.Version + "\ngo: " + stdruntime.Version() + "\n"
}
