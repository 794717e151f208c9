package libsandbox

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMoveOnto moves a file to names that are free and that are not.
func TestMoveOnto(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(path string) error
		want error
	}{
		{name: "free", make: func(string) error { return nil }},
		{name: "file", make: func(path string) error { return os.WriteFile(path, []byte("old"), 0o600) }},
		{name: "symlink", make: func(path string) error { return os.Symlink("/nowhere", path) }},
		{name: "directory", make: func(path string) error { return os.Mkdir(path, 0o700) }, want: unix.EISDIR},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			file, name := filepath.Join(dir, "file"), filepath.Join(dir, "name")
			if err := os.WriteFile(file, []byte("new"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := tt.make(name); err != nil {
				t.Fatal(err)
			}
			if err := moveOnto(file, name); err != tt.want {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			holds, gone := name, file
			if tt.want != nil {
				holds, gone = file, ""
			}
			if raw, err := os.ReadFile(holds); err != nil || string(raw) != "new" {
				t.Errorf("%s: %q, %v", holds, raw, err)
			}
			if _, err := os.Lstat(gone); gone != "" && !os.IsNotExist(err) {
				t.Errorf("%s: %v", gone, err)
			}
		})
	}
}
