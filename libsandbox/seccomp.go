package libsandbox

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/security/seccomp"
)

// filterDir holds compiled seccomp filters. No container can have this name.
const filterDir = "@seccomp"

// maxFilters is how many of them are kept.
const maxFilters = 32

// nativeArch is the architecture of this binary in the words of linux.seccomp.
func nativeArch() specs.Arch {
	if runtime.GOARCH == "arm64" {
		return specs.ArchAARCH64
	}
	return specs.ArchX86_64
}

// filter compiles linux.seccomp, or finds the filter among those compiled before. The
// store may be nil.
func (s *Store) filter(profile *specs.LinuxSeccomp) (*seccomp.Filter, error) {
	if profile == nil {
		return nil, nil
	}
	var path string
	key := seccomp.Key(profile, nativeArch())
	if s != nil {
		h := fnv.New64a()
		h.Write(key)
		path = filepath.Join(s.root, filterDir, strconv.FormatUint(h.Sum64(), 16))
		if f := readFilter(path, key); f != nil {
			return f, nil
		}
	}
	f, err := seccomp.Compile(profile, nativeArch())
	if err != nil || f == nil {
		return nil, err
	}
	for _, w := range f.Warnings {
		slog.Debug(w)
	}
	if path != "" && f.Listener == nil {
		keepFilter(path, key, f)
	}
	return f, nil
}

// The file of a filter: the length of the key, the flags, the key, the program. Files
// are compared by the whole key: their name is a hash that profiles can share.
const filterHeader = 8

// readFilter returns nil if there is no such filter.
func readFilter(path string, key []byte) *seccomp.Filter {
	raw, err := kernel.ReadAll(path)
	if err != nil || len(raw) < filterHeader+len(key) || int(binary.NativeEndian.Uint32(raw)) != len(key) {
		return nil
	}
	rest, same := bytes.CutPrefix(raw[filterHeader:], key)
	if !same || len(rest) == 0 || len(rest)%unix.SizeofSockFilter != 0 {
		return nil
	}
	return &seccomp.Filter{Program: rest, Flags: binary.NativeEndian.Uint32(raw[4:])}
}

// keepFilter stores a filter. To fail costs the next container a little time.
func keepFilter(path string, key []byte, f *seccomp.Filter) {
	dir := filepath.Dir(path)
	if err := unix.Mkdir(dir, 0o700); err == unix.EEXIST {
		if names, err := os.ReadDir(dir); err != nil || len(names) >= maxFilters {
			_ = os.RemoveAll(dir)
			_ = unix.Mkdir(dir, 0o700)
		}
	}
	raw := make([]byte, filterHeader, filterHeader+len(key)+len(f.Program))
	binary.NativeEndian.PutUint32(raw, uint32(len(key)))
	binary.NativeEndian.PutUint32(raw[4:], f.Flags)
	raw = append(append(raw, key...), f.Program...)
	tmp := path + "." + strconv.Itoa(os.Getpid())
	if writeFile(tmp, raw) != nil || unix.Rename(tmp, path) != nil {
		_ = unix.Unlink(tmp)
	}
}

// filterFact is f as the compiler of programs takes it.
func filterFact(f *seccomp.Filter) *compile.Filter {
	if f == nil {
		return nil
	}
	return &compile.Filter{Program: f.Program, Flags: f.Flags}
}

// passListener takes the descriptor fd of process pid, which is a seccomp listener, and
// sends it to the agent that answers for it, with the container's state (runtime-spec,
// config-linux.md, "containerProcessState").
func passListener(l *seccomp.Listener, pid, fd int, state *specs.State) error {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("linux.seccomp: pidfd: %w", err)
	}
	defer unix.Close(pidfd)
	listener, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		return fmt.Errorf("linux.seccomp: listener: %w", err)
	}
	defer unix.Close(listener)
	raw, err := json.Marshal(&specs.ContainerProcessState{
		Version:  specs.Version,
		Fds:      []string{specs.SeccompFdName},
		Pid:      pid,
		Metadata: l.Metadata,
		State:    *state,
	})
	if err != nil {
		return fmt.Errorf("linux.seccomp: %w", err)
	}
	if err := sendFile(l.Path, listener, string(raw)); err != nil {
		return fmt.Errorf("linux.seccomp.listenerPath: %w", err)
	}
	return nil
}
