package kernel

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHostID(t *testing.T) {
	const text = "         0     100000       1000\n      1000          7          1\n      2000 4294960000       5000\n"
	m, err := parseIDMap(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		id, want uint32
		err      string
	}{
		{0, 100000, ""},
		{999, 100999, ""},
		{1000, 7, ""},
		{1001, 0, "id 1001: not mapped"},
		{2001, 4294960001, ""},
		{7000, 0, "id 7000: not mapped"},
	} {
		got, err := m.Host(c.id)
		if back := m.Inside(got); err == nil && back != c.id {
			t.Errorf("%d is %d, which is %d", c.id, got, back)
		}
		if got != c.want || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%d: %d, %v", c.id, got, err)
		}
	}
	if m.Maps(3) || !m.Maps(7) || !m.Maps(100999) || m.Maps(101000) {
		t.Error("Maps is wrong")
	}
	if got := m.Inside(3); got != 65534 {
		t.Errorf("an id that is not mapped is %d", got)
	}
	if got := (IDMap{{5, 1, 1}, {3, 9, 1}}).Root(); got != 3 {
		t.Errorf("the lowest id is %d", got)
	}
	for _, bad := range []string{"0 x 1\n", "0 1\n", "0 0 4294967296\n"} {
		if m, err := parseIDMap(bad); err == nil {
			t.Errorf("%q is the map %v", bad, m)
		}
	}
	if got, err := HostID(os.Getpid(), "uid_map", 5); err != nil || got != 5 {
		t.Errorf("own: %d, %v", got, err)
	}
}

func TestWithFileIDs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes files of other users")
	}
	dir := t.TempDir()
	failed := errors.New("failed")
	err := WithFileIDs(1234, 2345, func() error {
		// A directory that only root may write to: the capabilities are still there.
		if err := os.Mkdir(filepath.Join(dir, "made"), 0o700); err != nil {
			t.Error(err)
		}
		return failed
	})
	if err != failed {
		t.Error(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "made"), &st); err != nil || st.Uid != 1234 || st.Gid != 2345 {
		t.Errorf("made by %d:%d, %v", st.Uid, st.Gid, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "after"), nil, 0o600); err != nil {
		t.Error(err)
	}
	if err := unix.Stat(filepath.Join(dir, "after"), &st); err != nil || st.Uid != 0 || st.Gid != 0 {
		t.Errorf("afterwards made by %d:%d, %v", st.Uid, st.Gid, err)
	}
}
