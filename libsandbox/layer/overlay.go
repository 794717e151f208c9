package layer

import (
	"fmt"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// fillOverlay makes the directories of an overlay layer.
func (l *Layer) fillOverlay(_, dir int) error {
	if err := l.limit(dir); err != nil {
		return err
	}
	upper := inLayer(l.meta.Key, upperDir)
	for _, name := range []string{inLayer(l.meta.Key, workDir), upper} {
		if err := l.mkdirIn(dir, name); err != nil {
			return err
		}
	}
	if err := dressRoot(l.below(), dir, upper); err != nil {
		return fmt.Errorf("attributes of %s: %w", l.below(), err)
	}
	l.root.did("dress upper")
	return nil
}

func (l *Layer) mkdirIn(dir int, name string) error {
	if err := unix.Mkdirat(dir, name, 0o700); err != nil {
		return fmt.Errorf("mkdir %s: %w", name, err)
	}
	l.root.did("mkdir " + name)
	return nil
}

// below is the directory that the layer lies on directly.
func (l *Layer) below() string {
	if len(l.meta.Parents) > 0 {
		return l.root.upper(l.meta.Parents[0])
	}
	return l.meta.Lowers[0].Path
}

// upper is the path of what layer key has written.
func (r *Root) upper(key string) string {
	return r.dir + "/" + layersDir + "/" + key + "/" + inLayer(key, upperDir)
}

// dressRoot gives the directory name in dir the owner, mode, extended attributes and
// times of the directory from: the root of an overlay shows those of its top layer.
// What overlayfs has noted about from is not copied, nor what the filesystem does
// not keep.
func dressRoot(from string, dir int, name string) error {
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		return err
	}
	if err := chown(dir, name, &st); err != nil {
		return err
	}
	if err := unix.Fchmodat(dir, name, st.Mode&0o7777, 0); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	if err := dressXattrs(from, dir, name); err != nil {
		return err
	}
	return setTimes(dir, name, &st)
}

// chown gives name in dir the owner in st. It is not left out where that is who runs
// this: a directory with the set-group-ID bit, or a mount with grpid, gives files another
// group.
func chown(dir int, name string, st *unix.Stat_t) error {
	err := unix.Fchownat(dir, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	return nil
}

func dressXattrs(from string, dir int, name string) error {
	to := "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name
	return eachXattr(from+"/.", func(key string, value []byte) error {
		if ofOverlay(key) {
			return nil
		}
		err := unix.Lsetxattr(to, key, value, 0)
		if err == unix.ENOTSUP {
			return nil
		}
		return err
	})
}

// ofOverlay says that overlayfs keeps its own in an extended attribute.
func ofOverlay(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}

func (l *Layer) overlayMounts() []specs.Mount {
	var lower strings.Builder
	for i, key := range l.meta.Parents {
		if i > 0 {
			lower.WriteByte(':')
		}
		lower.WriteString(escape(l.root.upper(key)))
	}
	for i := range l.meta.Lowers {
		if lower.Len() > 0 {
			lower.WriteByte(':')
		}
		lower.WriteString(escape(l.meta.Lowers[i].Path))
	}
	options := []string{
		"lowerdir=" + lower.String(),
		"upperdir=" + escape(l.root.upper(l.meta.Key)),
		"workdir=" + escape(l.full()+"/"+inLayer(l.meta.Key, workDir)),
		// Without it each unmount writes the whole filesystem of the layers back. In
		// return the work directory can never be mounted again.
		"volatile",
		"index=off",
	}
	if l.meta.UserXattr {
		options = append(options, "userxattr") // and no redirect_dir: overlayfs refuses both
	} else {
		options = append(options, "redirect_dir=on", "metacopy=off")
	}
	return []specs.Mount{{Destination: "/", Type: "overlay", Source: "overlay", Options: options}}
}

// escape protects what separates directories and options in the options of overlayfs.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`).Replace(path)
}
