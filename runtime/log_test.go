package runtime

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLogLines(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, tt := range []struct {
		level slog.Level
		msg   string
		attr  string
		json  string
		text  string
		plain string
	}{
		{
			slog.LevelError, `mounts[3] /proc: "x" & <y>`, "",
			`{"level":"error","msg":"mounts[3] /proc: \"x\" \u0026 \u003cy\u003e","time":"2026-01-02T03:04:05Z"}`,
			`time="2026-01-02T03:04:05Z" level=error msg="mounts[3] /proc: \"x\" & <y>"`,
			`adl-runtime: mounts[3] /proc: "x" & <y>`,
		},
		{
			slog.LevelWarn, "bare_word", "two words",
			`{"hook":"two words","level":"warning","msg":"bare_word","time":"2026-01-02T03:04:05Z"}`,
			`time="2026-01-02T03:04:05Z" level=warning msg=bare_word hook="two words"`,
			`adl-runtime: warning: bare_word hook="two words"`,
		},
		{
			slog.LevelInfo, "", "",
			`{"level":"info","msg":"","time":"2026-01-02T03:04:05Z"}`,
			`time="2026-01-02T03:04:05Z" level=info msg=""`,
			`adl-runtime: info: `,
		},
		{
			slog.LevelDebug, "d", "",
			`{"level":"debug","msg":"d","time":"2026-01-02T03:04:05Z"}`,
			`time="2026-01-02T03:04:05Z" level=debug msg=d`,
			`adl-runtime: debug: d`,
		},
	} {
		r := slog.NewRecord(at, tt.level, tt.msg, 0)
		var attrs []slog.Attr
		if tt.attr != "" {
			attrs = append(attrs, slog.String("hook", tt.attr))
		}
		for form, got := range map[string]string{
			tt.json: string(jsonLine(r, attrs)), tt.text: string(textLine(r, attrs)), tt.plain: string(plainLine(r, attrs)),
		} {
			if got != form {
				t.Errorf("got  %s\nwant %s", got, form)
			}
		}
	}
}

func TestLogLevels(t *testing.T) {
	h := newLogHandler(os.Stderr)
	if h.Enabled(context.Background(), slog.LevelDebug) || !h.Enabled(context.Background(), slog.LevelInfo) {
		t.Error("the default level is not info")
	}
	if err := h.configure("", "json", true); err != nil || !h.json || !h.Enabled(context.Background(), slog.LevelDebug) {
		t.Errorf("--debug --log-format json: %+v, %v", h, err)
	}
}

// An error of several lines, say with a hook's output, stays one line for those
// who read lines.
func TestFatalIsOneLine(t *testing.T) {
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	h := newLogHandler(stderr)
	if err := h.configure(filepath.Join(t.TempDir(), "log"), "text", false); err != nil {
		t.Fatal(err)
	}
	defer h.w.(*os.File).Close()
	h.fatal(errors.New("one\ntwo\n"))
	log, err := os.ReadFile(h.w.(*os.File).Name())
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(t, stderr); got != "one two\n" {
		t.Errorf("stderr %q", got)
	}
	if !strings.HasSuffix(string(log), " level=error msg=\"one two\"\n") {
		t.Errorf("log %q", log)
	}
}

// A logger that adds attributes does not change those of its parent.
func TestLogAttrs(t *testing.T) {
	var b strings.Builder
	h := newLogHandler(nil)
	h.w = &b
	parent := slog.New(h).With("a", 1)
	parent.With("b", 2).WithGroup("g").Info("x", "c", 3)
	parent.Info("y", "d", 4)
	lines := strings.Split(b.String(), "\n")
	if !strings.HasSuffix(lines[0], "msg=x a=1 b=2 c=3") || !strings.HasSuffix(lines[1], "msg=y a=1 d=4") {
		t.Errorf("%q", lines)
	}
}
