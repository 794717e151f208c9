package libsandbox

import (
	"os"
	"path/filepath"
	"testing"

	"adl.run/adl-runtime/libsandbox/layer"
)

// TestResetLeavesTheOldLayer: no reset deletes what an earlier one or itself has done away
// with, which takes the longer the more files there are.
func TestResetLeavesTheOldLayer(t *testing.T) {
	for _, mode := range []ResetMode{ResetRestart, ResetKeepInit} {
		t.Run(string(mode), func(t *testing.T) {
			c := boxed(t)
			asked := 0
			c.Store.background = func(string, []*os.File) error { asked++; return nil }
			l := newBox(t, c)
			root, err := layer.Open(c.Layer.Root)
			if err != nil {
				t.Fatal(err)
			}
			for n := 1; n <= 3; n++ {
				l.say("i=0; while [ $i -lt 50 ]; do echo x >/file$i; i=$((i+1)); done")
				l.reset(mode)
				if in, err := root.TrashLen(); in != n || asked != n || err != nil {
					t.Errorf("after reset %d: %d layers in the trash, asked %d times to delete, %v", n, in, asked, err)
				}
			}
			files, err := filepath.Glob(filepath.Join(c.Layer.Root, "trash", "*", "*", "file*"))
			if err != nil || len(files) != 150 {
				t.Errorf("%d files are left of 150, %v", len(files), err)
			}
			if got := l.say("ls / | busybox grep -c file"); got != "0" {
				t.Errorf("the sandbox has %s of them", got)
			}
			if err := l.Delete(t.Context(), &DeleteOptions{Force: true}); err != nil {
				t.Error(err)
			}
			if err := EmptyTrash(t.Context(), c.Layer.Root); err != nil {
				t.Error(err)
			}
			noLayers(t, c.Layer.Root)
		})
	}
}
