package runtime

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"adl.run/adl-runtime/libsandbox/shell"
	"adl.run/adl-runtime/spec"
)

// job answers what is about the jobs of a session.
func (p *coprocess) job(q *coRequest, late func()) (work func(), err error) {
	s, err := p.session(q, false)
	if err != nil {
		return nil, err
	}
	if q.Op == "jobs" {
		e := newEvent(q, "jobs").key("jobs").raw("[")
		for i, j := range s.Jobs() {
			if i > 0 {
				e = e.raw(",")
			}
			e = e.raw("{").job(j).raw("}")
		}
		p.write(e.raw("]"))
		return nil, nil
	}
	j := s.Job(q.Job)
	if j == nil {
		return nil, fmt.Errorf("job %d: session %q has none of that number", q.Job, q.Session)
	}
	switch q.Op {
	case "output":
		return nil, p.jobOutput(q, j)
	case "signal":
		sig, err := parseSignal(q.Signal)
		if err == nil {
			err = j.Signal(sig)
		}
		if err != nil {
			return nil, err
		}
		p.done(q)
		return nil, nil
	}
	return func() {
		late()
		if _, err := j.Wait(p.ctx); err != nil {
			p.fail(q, err)
			return
		}
		p.write(newEvent(q, "job").job(j))
	}, nil
}

// jobOutput tells what is kept of one of a job's outputs.
func (p *coprocess) jobOutput(q *coRequest, j *shell.Job) error {
	stream := shell.Stdout
	switch q.Of {
	case "", "stdout":
	case "stderr":
		stream = shell.Stderr
	default:
		return fmt.Errorf("of %q: must be stdout or stderr", q.Of)
	}
	if q.Offset < 0 {
		return errors.New("offset: must not be negative")
	}
	st := j.Status()
	total := st.Stdout
	if stream == shell.Stderr {
		total = st.Stderr
	}
	buf := make([]byte, min(max(total-q.Offset, 0), 1<<20))
	n, first := j.Read(stream, q.Offset, buf)
	e := newEvent(q, "output").number("offset", first).number("next", first+int64(n))
	p.write(e.bytes("data", buf[:n]).flag("ended", st.Ended))
	return nil
}

// coEvent is a line of standard output in the making.
type coEvent []byte

func newEvent(q *coRequest, name string) coEvent {
	e := coEvent(`{"id":`)
	if len(q.ID) > 0 {
		e = append(e, q.ID...)
	} else {
		e = append(e, "null"...)
	}
	return e.text("event", name)
}

func (e coEvent) raw(s string) coEvent { return append(e, s...) }

func (e coEvent) key(name string) coEvent {
	if e[len(e)-1] != '{' {
		e = append(e, ',')
	}
	return append(append(append(e, '"'), name...), `":`...)
}

func (e coEvent) text(key, s string) coEvent { return spec.AppendString(e.key(key), s) }

func (e coEvent) number(key string, n int64) coEvent { return strconv.AppendInt(e.key(key), n, 10) }

func (e coEvent) flag(key string, b bool) coEvent { return strconv.AppendBool(e.key(key), b) }

// seconds has microseconds.
func (e coEvent) seconds(d time.Duration) coEvent {
	return strconv.AppendFloat(e.key("seconds"), float64(d.Microseconds())/1e6, 'f', -1, 64)
}

// bytes is text where b is UTF-8; otherwise it goes by the name of key_base64.
func (e coEvent) bytes(key string, b []byte) coEvent {
	if utf8.Valid(b) {
		return spec.AppendString(e.key(key), string(b))
	}
	e = append(e.key(key+"_base64"), '"')
	return append(base64.StdEncoding.AppendEncode(e, b), '"')
}

// job has the fields of a job.
func (e coEvent) job(j *shell.Job) coEvent {
	st := j.Status()
	e = e.number("job", int64(j.Number)).flag("background", j.Background).flag("ended", st.Ended)
	e = e.number("status", int64(st.ExitStatus)).number("stdout", st.Stdout).number("stderr", st.Stderr)
	return e.bytes("command", []byte(j.Text))
}

// write writes an event.
func (p *coprocess) write(e coEvent) {
	e = append(e, "}\n"...)
	p.out.Lock()
	defer p.out.Unlock()
	if _, err := p.file.Write(e); err != nil && p.wrong == nil {
		p.wrong = err
	}
}

func (p *coprocess) done(q *coRequest) { p.write(newEvent(q, "done")) }

func (p *coprocess) fail(q *coRequest, err error) {
	p.write(newEvent(q, "error").text("error", err.Error()))
}
