package layer

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mountLayer mounts what l says on a new directory, and unmounts it with the test.
func mountLayer(tb testing.TB, l *Layer) string {
	tb.Helper()
	dir := tb.TempDir()
	err := mountOn(l, dir)
	if errors.Is(err, errNoAppend) {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatalf("mount %v: %v", l.Mounts(), err)
	}
	tb.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func unmount(tb testing.TB, dir string) {
	tb.Helper()
	if err := unix.Unmount(dir, 0); err != nil {
		tb.Fatalf("unmount %s: %v", dir, err)
	}
}

func mountOn(l *Layer, dir string) error {
	m := l.Mounts()[0]
	if m.Type == "bind" {
		return unix.Mount(m.Source, dir, "", unix.MS_BIND, "")
	}
	data := strings.Join(m.Options, ",")
	if len(data) < 4000 {
		return unix.Mount(m.Source, dir, m.Type, 0, data)
	}
	fs, err := unix.Fsopen(m.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	for _, o := range m.Options {
		if err := configure(fs, o); err != nil {
			return err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return err
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(mnt)
	return unix.MoveMount(mnt, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

var errNoAppend = errors.New("needs lowerdir+ (Linux 6.8)")

func configure(fs int, option string) error {
	key, value, ok := strings.Cut(option, "=")
	switch {
	case !ok:
		return unix.FsconfigSetFlag(fs, key)
	case key != "lowerdir":
		return unix.FsconfigSetString(fs, key, value)
	}
	for _, dir := range splitLower(value) {
		if err := unix.FsconfigSetString(fs, "lowerdir+", dir); err != nil {
			return errors.Join(errNoAppend, err)
		}
	}
	return nil
}

// splitLower undoes what Mounts does to the directories.
func splitLower(s string) (dirs []string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
			b.WriteByte(s[i])
		case ':':
			dirs = append(dirs, b.String())
			b.Reset()
		default:
			b.WriteByte(s[i])
		}
	}
	return append(dirs, b.String())
}
