package libsandbox

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// TestForceDeleteDamaged removes a container whose state.json is unreadable: its
// process must not live on without a name.
func TestForceDeleteDamaged(t *testing.T) {
	b := everything(t, t.TempDir())
	store := &Store{root: t.TempDir()}
	sb, err := store.Create(context.Background(), "damaged", b, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(store.root, "damaged", stateFile)
	whole, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte("{"), 0o600)
	}
	if err == nil {
		err = store.ForceDelete(context.Background(), "damaged")
	}
	if err != nil {
		t.Fatal(err)
	}
	if sb.rec.Init.Alive() {
		t.Error("init is alive")
	}
	// The cgroup is known only from the file.
	if err = os.Mkdir(filepath.Dir(path), 0o700); err == nil {
		err = os.WriteFile(path, whole, 0o600)
	}
	if err == nil {
		err = store.ForceDelete(context.Background(), "damaged")
	}
	if err != nil {
		t.Error(err)
	}
	reapChildren()
}
