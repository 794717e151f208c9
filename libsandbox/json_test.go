package libsandbox

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"adl.run/adl-runtime/libsandbox/internal/engine"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/spec"
)

// What is written by hand reads back as it was.
func TestRecordJSON(t *testing.T) {
	timeout := 3
	r := record{
		Version: "1.3.0", ID: "a", Bundle: "/b \"quoted\" \\ back\tand\x01\u00e9\U0001f600", Rootfs: "/b/r",
		Created:     "2026-01-02T03:04:05.6Z",
		Annotations: map[string]string{"k": "v", "empty": "", "<&>": "\u2028"},
		Cgroup:      map[string]string{"": "/sys/fs/cgroup/x", "cpu": "/sys/fs/cgroup/cpu/x"},
		Rdt:         &rdtRecord{ClosID: "a \"class\"", Monitor: true},
		Owner:       &ownerRecord{kernel.ProcessID{Pid: 7, Start: 8}, 9}, Lifetime: 1, Idle: 2,
		RootMount: 1 << 40, OwnPid: true, Plain: true, NoNewKeyring: true, Arg0: "sh",
		Layer: &layerRecord{Root: "/l", Memory: true, Key: "k", Parents: []string{"a", "b"}, Volumes: []LayerChain{{"v", []string{"w"}}, {"x", []string{"y", "z"}}}, Reset: ResetRestart, ConsoleSocket: "/s", PidFile: "/p"},
		Hooks: &specs.Hooks{Poststop: []specs.Hook{{Path: "/h", Args: []string{"a"}, Timeout: &timeout}}},
	}
	raw, err := r.appendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	var got record
	if err := spec.Unmarshal(stateFile, raw, &got); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	if d := cmp.Diff(r, got); d != "" {
		t.Errorf("state.json (-written +read):\n%s", d)
	}
	for _, in := range []initRecord{
		{ProcessID: kernel.ProcessID{Pid: 42, Start: 99}, Image: engine.Image{Dev: 1, Ino: 2}},
		{Layer: "0123456789abcdef", Volumes: []string{"a", "b"}, Resets: 3, Files: []fileID{{1, 2}, {3, 4}, {5, 6}}, Namespaces: []uint64{7, 8, 9}},
	} {
		var back initRecord
		if err := spec.Unmarshal(initFile, in.appendJSON(nil), &back); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(in, back); d != "" {
			t.Errorf("init.json (-written +read):\n%s", d)
		}
	}
}
