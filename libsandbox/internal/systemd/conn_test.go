package systemd

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
)

// peer is a systemd or a bus that answers as told. It speaks D-Bus by another
// implementation.
type peer struct {
	t      *testing.T
	path   string
	answer func(p *peer, m *dbus.Message)
	serial uint32

	mu    sync.Mutex // also of what answer writes
	conn  net.Conn
	calls []string
}

// called lists the calls so far.
func (p *peer) called() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.calls, " ")
}

func listen(t *testing.T, answer func(p *peer, m *dbus.Message)) *peer {
	t.Helper()
	p := &peer{t: t, path: filepath.Join(t.TempDir(), "socket"), answer: answer}
	l, err := net.Listen("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.serve(l)
	}()
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		if p.conn != nil {
			p.conn.Close()
		}
		p.mu.Unlock()
		<-done
	})
	return p
}

func (p *peer) serve(l net.Listener) {
	conn, err := l.Accept()
	if err != nil {
		return
	}
	p.mu.Lock()
	p.conn = conn
	p.mu.Unlock()
	r := bufio.NewReader(conn)
	line, _ := r.ReadString('\n')
	if !strings.HasPrefix(line, "\x00AUTH EXTERNAL 3") { // an ASCII digit in hexadecimal
		p.t.Errorf("authentication %q", line)
	}
	conn.Write([]byte("OK 1234deadbeef\r\n"))
	if line, _ = r.ReadString('\n'); line != "BEGIN\r\n" {
		p.t.Errorf("then %q", line)
	}
	for {
		m, err := dbus.DecodeMessage(r)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.calls = append(p.calls, m.Headers[dbus.FieldMember].Value().(string))
		p.answer(p, m)
		p.mu.Unlock()
	}
}

func (p *peer) send(m *dbus.Message) {
	p.serial++
	if sig := dbus.SignatureOf(m.Body...); len(m.Body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(sig)
	}
	var b bytes.Buffer
	if err := m.EncodeTo(&b, binary.LittleEndian); err != nil {
		p.t.Error(err)
	}
	raw := b.Bytes()
	binary.LittleEndian.PutUint32(raw[8:], p.serial) // the library sets it only for connections of its own
	p.conn.Write(raw)
}

func (p *peer) reply(to *dbus.Message, body ...any) {
	p.send(&dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{dbus.FieldReplySerial: dbus.MakeVariant(to.Serial())}, Body: body})
}

func (p *peer) fail(to *dbus.Message, name, text string) {
	p.send(&dbus.Message{Type: dbus.TypeError, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(to.Serial()), dbus.FieldErrorName: dbus.MakeVariant("org.freedesktop.systemd1." + name),
	}, Body: []any{text}})
}

func (p *peer) removed(job, result string) {
	p.send(&dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/systemd1")), dbus.FieldInterface: dbus.MakeVariant("org.freedesktop.systemd1.Manager"), dbus.FieldMember: dbus.MakeVariant("JobRemoved"),
	}, Body: []any{uint32(7), dbus.ObjectPath(job), "x.scope", result}})
}

// job answers a call that begins a job, whose end it tells before or after.
func (p *peer) job(to *dbus.Message, result string, early bool) {
	if early {
		p.removed("/job/7", result)
	}
	p.reply(to, dbus.ObjectPath("/job/7"))
	p.removed("/job/8", "failed") // somebody else's
	if !early {
		p.removed("/job/7", result)
	}
}

func connect(t *testing.T, p *peer, bus bool) *Conn {
	t.Helper()
	c, err := dial(p.path, bus)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestStart(t *testing.T) {
	var got []any
	p := listen(t, func(p *peer, m *dbus.Message) {
		got = m.Body
		p.job(m, "done", true)
	})
	c := connect(t, p, false)
	err := c.Start("x.scope", []Property{
		{"Description", String("a unit")},
		{"Delegate", Bool(true)},
		{"PIDs", Uint32s(42)},
		{"MemoryMax", Uint64(1 << 40)},
		{"AllowedCPUs", Bytes([]byte{3, 1})},
		{"Wants", Strings("a.slice", "b.slice")},
		{"DeviceAllow", Pairs([][2]string{{"/dev/char/1:3", "rwm"}, {"char-*", "m"}})},
		{"DeviceAllow", Pairs(nil)},
	})
	if err != nil {
		t.Fatal(err)
	}
	prop := func(name string, v any) []any { return []any{name, dbus.MakeVariant(v)} }
	want := []any{"x.scope", "replace", [][]any{
		prop("Description", "a unit"), prop("Delegate", true), prop("PIDs", []uint32{42}), prop("MemoryMax", uint64(1<<40)),
		prop("AllowedCPUs", []byte{3, 1}), prop("Wants", []string{"a.slice", "b.slice"}),
		{"DeviceAllow", dbus.MakeVariantWithSignature([][]any{{"/dev/char/1:3", "rwm"}, {"char-*", "m"}}, dbus.ParseSignatureMust("a(ss)"))},
		{"DeviceAllow", dbus.MakeVariantWithSignature([][]any{}, dbus.ParseSignatureMust("a(ss)"))},
	}, [][]any{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	plain := cmp.Transformer("variant", func(v dbus.Variant) []any { return []any{v.Signature().String(), v.Value()} })
	if d := cmp.Diff(want, got, plain); d != "" {
		t.Error(d)
	}
}

// What is in the way of a unit is reset once.
func TestStartAfterAFailedOne(t *testing.T) {
	p := listen(t, func(p *peer, m *dbus.Message) {
		switch {
		case len(p.calls) == 1:
			p.fail(m, "UnitExists", "Unit x.scope already exists.")
		case p.calls[len(p.calls)-1] == "ResetFailedUnit":
			p.reply(m)
		default:
			p.job(m, "done", false)
		}
	})
	if err := connect(t, p, false).Start("x.scope", nil); err != nil {
		t.Error(err)
	}
	if got := p.called(); got != "StartTransientUnit ResetFailedUnit StartTransientUnit" {
		t.Error(got)
	}
}

func TestStartFails(t *testing.T) {
	for want, answer := range map[string]func(p *peer, m *dbus.Message){
		"start unit x.scope: Unit x.scope already exists.": func(p *peer, m *dbus.Message) {
			if p.calls[len(p.calls)-1] == "ResetFailedUnit" {
				p.reply(m)
				return
			}
			p.fail(m, "UnitExists", "Unit x.scope already exists.")
		},
		"start unit x.scope: its job ended as failed": func(p *peer, m *dbus.Message) {
			if p.calls[len(p.calls)-1] == "ResetFailedUnit" {
				p.fail(m, "NoSuchUnit", "Unit x.scope not loaded.")
				return
			}
			p.job(m, "failed", true)
		},
		"start unit x.scope: systemd: StartTransientUnit: systemd closed the connection": func(p *peer, _ *dbus.Message) { p.conn.Close() },
		"start unit x.scope: systemd: StartTransientUnit: not a D-Bus message":           func(p *peer, _ *dbus.Message) { p.conn.Write(make([]byte, 64)) },
		"start unit x.scope: systemd: an answer without a job":                           func(p *peer, m *dbus.Message) { p.reply(m) },
	} {
		err := connect(t, listen(t, answer), false).Start("x.scope", nil)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestStopResetSet(t *testing.T) {
	p := listen(t, func(p *peer, m *dbus.Message) {
		switch p.calls[len(p.calls)-1] {
		case "StopUnit":
			if m.Body[0] == "gone.scope" {
				p.fail(m, "NoSuchUnit", "Unit gone.scope not loaded.")
				return
			}
			p.job(m, "done", false)
		case "ResetFailedUnit":
			p.fail(m, "NoSuchUnit", "Unit x.scope not loaded.")
		case "SetUnitProperties":
			if d := cmp.Diff([]any{"x.scope", true}, m.Body[:2]); d != "" {
				p.t.Error(d)
			}
			p.fail(m, "BadUnitSetting", "Cannot set property PIDs, or unknown property.")
		}
	})
	c := connect(t, p, false)
	for _, unit := range []string{"x.scope", "gone.scope"} {
		if err := c.Stop(unit); err != nil {
			t.Errorf("%s: %v", unit, err)
		}
	}
	err := c.Set("x.scope", []Property{{"PIDs", Uint32s(1)}})
	if err == nil || err.Error() != "change unit x.scope: Cannot set property PIDs, or unknown property." {
		t.Error(err)
	}
	if err := c.Set("x.scope", nil); err != nil {
		t.Error(err)
	}
	if got := p.called(); got != "StopUnit ResetFailedUnit StopUnit SetUnitProperties" {
		t.Error(got)
	}
}

// Over a bus the connection has to introduce itself, and to ask for signals.
func TestBus(t *testing.T) {
	p := listen(t, func(p *peer, m *dbus.Message) {
		to, _ := m.Headers[dbus.FieldDestination].Value().(string)
		if m.Headers[dbus.FieldMember].Value() == "ResetFailedUnit" && to != "org.freedesktop.systemd1" {
			p.t.Errorf("destination %q", to)
		}
		p.reply(m)
	})
	if err := connect(t, p, true).Reset("x.scope"); err != nil {
		t.Error(err)
	}
	if got := p.called(); got != "Hello AddMatch Subscribe ResetFailedUnit" {
		t.Error(got)
	}
}

func TestDialFails(t *testing.T) {
	if _, err := dial("/nowhere/socket", false); err == nil || err.Error() != "connect /nowhere/socket: no such file or directory" {
		t.Error(err)
	}
}

// Nothing that comes in can do more than be refused.
func FuzzParse(f *testing.F) {
	f.Add(call(1, "a.b", "/", "a.b", "M", arg{"s", "x"}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) < 16 {
			return
		}
		header, body, err := headerLength(raw)
		if err != nil || header+body > len(raw) {
			return
		}
		m, err := parse(raw[:header+body], header)
		if err == nil {
			c := &Conn{jobs: map[string]string{}}
			c.keepJob(&m)
			_ = m.failure()
		}
	})
}
