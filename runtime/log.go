package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// logHandler writes records as logrus does, because managers read them so:
// containerd looks for the last level=error msg of the --log file, podman
// decodes its lines.
//
//	json:  {"level":"error","msg":"…","time":"2026-01-02T15:04:05Z"}
//	text:  time="2026-01-02T15:04:05Z" level=error msg="…"
//	plain: adl-runtime: …        (a terminal, in place of text)
//
// Without --log the records go to stderr.
type logHandler struct {
	w      io.Writer
	stderr *os.File
	json   bool
	level  slog.Level
	attrs  []slog.Attr
}

// newLogHandler returns a handler that writes text to stderr, which it borrows.
func newLogHandler(stderr *os.File) *logHandler {
	return &logHandler{w: stderr, stderr: stderr}
}

// configure applies --log, --log-format and --debug. The log file is opened
// here, as runc does, so that a bad path is an error before anything is made; it
// stays open until the process ends. One write is one line, so O_APPEND keeps
// the lines of concurrent commands apart.
func (h *logHandler) configure(path, format string, debug bool) error {
	switch format {
	case "", "text":
	case "json":
		h.json = true
	default:
		return fmt.Errorf("invalid log-format: %s", format)
	}
	if debug {
		h.level = slog.LevelDebug
	}
	if path == "" {
		return nil
	}
	// Not os.OpenFile: it would start the network poller for a file that is never polled.
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	h.w = os.NewFile(uintptr(fd), path)
	return nil
}

// fatal reports the error that ends the command: in the log, and where that is
// not stderr, as one bare line there.
func (h *logHandler) fatal(err error) {
	msg := oneLine(err.Error())
	slog.New(h).Error(msg)
	if h.w != h.stderr {
		io.WriteString(h.stderr, msg+"\n")
	}
}

func oneLine(s string) string {
	return strings.ReplaceAll(strings.TrimSpace(s), "\n", " ")
}

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	attrs := h.attrs[:len(h.attrs):len(h.attrs)]
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	var line []byte
	switch {
	case h.json:
		line = jsonLine(r, attrs)
	case h.w == h.stderr && isTerminal(h.stderr):
		line = plainLine(r, attrs)
	default:
		line = textLine(r, attrs)
	}
	_, err := h.w.Write(append(line, '\n'))
	return err
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	n.attrs = append(n.attrs[:len(n.attrs):len(n.attrs)], attrs...)
	return &n
}

// WithGroup ignores the group: logrus has flat fields.
func (h *logHandler) WithGroup(string) slog.Handler { return h }

// levelName is logrus's name, which differs from slog's for warnings.
func levelName(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warning"
	case l >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}

// jsonLine has its keys in the alphabet's order, as a marshalled map does.
func jsonLine(r slog.Record, attrs []slog.Attr) []byte {
	m := make(map[string]string, 3+len(attrs))
	for _, a := range attrs {
		m[a.Key] = a.Value.String()
	}
	m["level"], m["msg"], m["time"] = levelName(r.Level), r.Message, r.Time.Format(time.RFC3339)
	line, _ := json.Marshal(m) // strings always marshal
	return line
}

func textLine(r slog.Record, attrs []slog.Attr) []byte {
	line := fmt.Appendf(nil, "time=%q level=%s msg=%s", r.Time.Format(time.RFC3339), levelName(r.Level), quoted(r.Message))
	return appendAttrs(line, attrs)
}

func plainLine(r slog.Record, attrs []slog.Attr) []byte {
	line := []byte(name + ": ")
	if r.Level < slog.LevelError {
		line = append(line, levelName(r.Level)+": "...)
	}
	return appendAttrs(append(line, r.Message...), attrs)
}

func appendAttrs(line []byte, attrs []slog.Attr) []byte {
	for _, a := range attrs {
		line = fmt.Appendf(line, " %s=%s", a.Key, quoted(a.Value.String()))
	}
	return line
}

// quoted is s, in quotes if it has a byte that logrus would not leave bare.
func quoted(s string) string {
	bare := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-._/@^+", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !bare(r) }) < 0 {
		return s
	}
	return fmt.Sprintf("%q", s)
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
