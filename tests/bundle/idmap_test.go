package bundle_test

import (
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	h "adl.run/adl-runtime/tests/harness"
)

// mapped is a bind mount with id maps of its own, the same for users and groups.
func mapped(dest, source string, options []string, maps ...specs.LinuxIDMapping) h.Mutate {
	return func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{
			Destination: dest, Type: "bind", Source: source, Options: options, UIDMappings: maps, GIDMappings: maps,
		})
	}
}

// source is a directory of the host with a file of user 3 and group 4, and a mount below
// it with a file of user 5.
func source(t *testing.T, b *h.Bundle) string {
	t.Helper()
	dir := filepath.Join(b.Work, "source")
	h.Must(t, os.MkdirAll(dir+"/below", 0o755))
	other := filepath.Join(b.Work, "other") // not a tmpfs, which takes part since Linux 6.3
	h.Must(t, os.MkdirAll(other, 0o755))
	h.WriteFile(t, dir+"/file", "", 0o644)
	h.Must(t, os.Chown(dir+"/file", 3, 4))
	h.HostMount(t, other, dir+"/below", "", unix.MS_BIND, "")
	h.WriteFile(t, dir+"/below/file", "", 0o644)
	h.Must(t, os.Chown(dir+"/below/file", 5, 5))
	return dir
}

const owners = "stat -c %u:%g /mapped/file /mapped/below/file"

func TestMounts_IDMap(t *testing.T) {
	t.Parallel()
	h.Since(t, "5.12", "mount_setattr(2)")
	h.NotFor(t, "crun", "crun 1.8 leaves out what is mounted below the source")
	h.NotFor(t, "runc", "came with runc 1.2")
	for _, c := range []struct {
		options []string
		want    string
	}{
		{[]string{"rbind", "idmap"}, "1003:1004\n5:5"},
		{[]string{"rbind", "ridmap"}, "1003:1004\n1005:1005"},
		{[]string{"rbind"}, "1003:1004\n5:5"}, // the maps are enough
	} {
		b := h.New(t, h.Sh(owners+"; touch /mapped/new"))
		b.Set(mapped("/mapped", source(t, b), c.options, idMap(0, 1000, 100)), h.User(1007, 1008))
		h.Must(t, os.Chmod(filepath.Join(b.Work, "source"), 0o777))
		if got := b.Out(); got != c.want {
			t.Errorf("%v: owners %q, want %q", c.options, got, c.want)
		}
		var st unix.Stat_t
		h.Must(t, unix.Stat(filepath.Join(b.Work, "source/new"), &st))
		if st.Uid != 7 || st.Gid != 8 {
			t.Errorf("on the host the new file belongs to %d:%d, want 7:8", st.Uid, st.Gid)
		}
	}
}

// Two mounts with different maps, a file, and attributes along with them.
func TestMounts_IDMapSeveral(t *testing.T) {
	t.Parallel()
	h.Since(t, "5.12", "mount_setattr(2)")
	h.NotFor(t, "runc", "came with runc 1.2")
	b := h.New(t, h.Sh("stat -c %u:%g /a/file /b/file /c; touch /b/x 2>/dev/null || echo read-only"))
	dir := source(t, b)
	b.Set(mapped("/a", dir, []string{"rbind", "idmap"}, idMap(0, 1000, 100)), mapped("/b", dir, []string{"rbind", "idmap", "ro"}, idMap(0, 2000, 4), idMap(4, 9, 1)),
		mapped("/c", dir+"/file", []string{"bind", "idmap"}, idMap(0, 1000, 100)))
	if got, want := b.Out(), "1003:1004\n2003:9\n1003:1004\nread-only"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// As Kubernetes has it for a pod with a user namespace: files look as on the host.
func TestMounts_IDMapOfTheUserNamespace(t *testing.T) {
	t.Parallel()
	h.Since(t, "5.12", "mount_setattr(2)")
	h.NotFor(t, "crun", "crun 1.8 leaves out what is mounted below the source")
	h.NotFor(t, "runc", "came with runc 1.2")
	for _, own := range []bool{false, true} {
		b := withUserns(t, h.New(t, h.Sh(owners+"; touch /mapped/new; stat -c %u:%g /mapped/new")))
		dir := source(t, b)
		if own {
			b.Set(mapped("/mapped", dir, []string{"rbind", "idmap"}, b.Spec.Linux.UIDMappings...))
		} else {
			b.Set(h.Mount("/mapped", "bind", dir, "rbind", "idmap"))
		}
		if got, want := b.Out(), "3:4\n65534:65534\n0:0"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		var st unix.Stat_t
		h.Must(t, unix.Stat(dir+"/new", &st))
		if st.Uid != 0 || st.Gid != 0 {
			t.Errorf("on the host the new file belongs to %d:%d, want root", st.Uid, st.Gid)
		}
	}
}

func TestMounts_IDMapRefused(t *testing.T) {
	t.Parallel()
	h.Since(t, "5.12", "mount_setattr(2)")
	h.OursOnly(t, "the wording is this project's")
	maps := []specs.LinuxIDMapping{idMap(0, 1000, 100)}
	for want, edit := range map[string]h.Mutate{
		`mounts[7].options[1] \"idmap\": needs uidMappings and gidMappings, or a user namespace`: h.Mount("/mapped", "bind", "/usr", "bind", "idmap"),
		`mounts[7].uidMappings: only bind mounts can have them`: func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/mapped", Type: "tmpfs", UIDMappings: maps, GIDMappings: maps})
		},
		`mounts[7] /mapped: the source's file system cannot be mounted with mapped ids on this kernel`: mapped("/mapped", "/proc/sys", []string{"rbind", "idmap"}, maps...),
	} {
		b := h.New(t)
		b.Set(edit)
		b.Run().Refused(t, want, "")
	}
}
