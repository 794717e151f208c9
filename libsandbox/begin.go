package libsandbox

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/internal/engine"
)

// Annotations that say what a container begins with.
const (
	// AnnotationInit says who process 1 is. "pause" is a program of the runtime's own,
	// which needs no file of the container, reaps what becomes its child, and ends on
	// SIGTERM, SIGINT and SIGHUP. process.args are its name then, and nothing else.
	AnnotationInit = "run.adl.init"
	// AnnotationFile and an absolute path behind it is a file that the container has in
	// its first state, also after a reset: mode 0644, of its root. The value is its
	// content. The container needs a layer.
	AnnotationFile = "run.adl.file."
)

// initPause is the value of AnnotationInit.
const initPause = "pause"

// pauses says whether the container has the pause program for its process 1.
func pauses(s *specs.Spec) (bool, error) {
	switch v := s.Annotations[AnnotationInit]; v {
	case "":
		return false, nil
	case initPause:
		return true, nil
	default:
		return false, fmt.Errorf("annotations[%q] %q: must be %s", AnnotationInit, v, initPause)
	}
}

// pauseFile opens the executable of the pause program. fds owns it.
func pauseFile(fds *descriptors) (int, error) {
	p := compile.NewPause()
	if err := p.Verify(); err != nil {
		return -1, err
	}
	fd, err := engine.Executable(p)
	if err != nil {
		return -1, err
	}
	return fds.add(fd), nil
}

// filesOf are the files that the annotations ask for, by path.
func filesOf(s *specs.Spec) (list []compile.File, err error) {
	for key, text := range s.Annotations {
		name, ok := strings.CutPrefix(key, AnnotationFile)
		if !ok {
			continue
		}
		if !filepath.IsAbs(name) || path.Clean(name) != name || name == "/" {
			return nil, fmt.Errorf("annotations[%q]: %q: must be the absolute path of a file", key, name)
		}
		list = append(list, compile.File{Path: name, Text: text})
	}
	slices.SortFunc(list, func(a, b compile.File) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

// firstFiles are the files for a root filesystem that is in its first state. One that
// begins as a snapshot has them already, as the container left them.
func (c *creation) firstFiles() ([]compile.File, error) {
	files, err := filesOf(c.bundle.Spec)
	switch {
	case err != nil || len(files) == 0:
		return nil, err
	case c.recorded() == nil:
		return nil, fmt.Errorf("annotations[%q]: %w", AnnotationFile+files[0].Path, errNoLayerFor("a file"))
	case c.layer != nil && len(c.layer.Meta().Parents) > 0:
		return nil, nil
	}
	return files, nil
}

// errNoLayerFor is for what would be written to the bundle otherwise.
func errNoLayerFor(what string) error {
	return kindError{errors.New(what + " needs a layer: the root filesystem is written to otherwise"), ErrNoLayer}
}
