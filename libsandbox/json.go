package libsandbox

import (
	"encoding/json"
	"slices"
	"strconv"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/internal/kernel/early"
	"adl.run/adl-runtime/spec"
)

// The records are written by hand: the first use of encoding/json costs as much as
// a whole namespace (0.2 ms), and there are two of them in each run. Reading goes
// through package spec. TestRecordJSON holds the two together.

// appendJSON appends the record without Init. Package early reads the beginning.
func (r *record) appendJSON(b []byte) ([]byte, error) {
	if r.Plain {
		b = append(b, early.Plain...)
	} else {
		b = append(b, `{"id":"`...)
	}
	b = append(append(b, r.ID...), early.IDEnd...) // an id has nothing to escape
	b = appendMembers(b, r.Cgroup)
	b = append(b, "},"...)
	b = appendField(b, "ociVersion", r.Version)
	b = appendField(b, "bundle", r.Bundle)
	b = appendField(b, "rootfs", r.Rootfs)
	b = appendField(b, "created", r.Created)
	b = appendField(b, "arg0", r.Arg0)
	b = append(b, `"annotations":`...)
	b = append(appendMembers(append(b, '{'), r.Annotations), '}')
	b = append(b, `,"execOp":`...)
	b = strconv.AppendInt(b, int64(r.ExecOp), 10)
	b = append(b, `,"rootMount":`...)
	b = strconv.AppendUint(b, r.RootMount, 10)
	b = append(b, `,"ownPid":`...)
	b = strconv.AppendBool(b, r.OwnPid)
	b = append(b, `,"noNewKeyring":`...)
	b = strconv.AppendBool(b, r.NoNewKeyring)
	if r.Rdt != nil {
		b = appendField(append(b, `,"rdt":{`...), "closID", r.Rdt.ClosID)
		b = append(strconv.AppendBool(append(b, `"monitor":`...), r.Rdt.Monitor), '}')
	}
	if r.Owner != nil {
		b = appendProcess(append(b, `,"owner":{`...), r.Owner.ProcessID)
		b = strconv.AppendUint(append(b, `,"namespace":`...), r.Owner.Namespace, 10)
		b = append(b, '}')
	}
	if r.Lifetime != 0 || r.Idle != 0 {
		b = strconv.AppendInt(append(b, `,"lifetime":`...), int64(r.Lifetime), 10)
		b = strconv.AppendInt(append(b, `,"idle":`...), int64(r.Idle), 10)
	}
	if r.Layer != nil {
		b = r.Layer.appendJSON(append(b, `,"layer":`...))
	}
	if r.Hooks != nil {
		hooks, err := json.Marshal(r.Hooks)
		if err != nil {
			return nil, err
		}
		b = append(append(b, `,"hooks":`...), hooks...)
	}
	return append(b, '}'), nil
}

func (r *initRecord) appendJSON(b []byte) []byte {
	b = appendProcess(append(b, '{'), r.ProcessID)
	b = append(b, `,"image":{"dev":`...)
	b = strconv.AppendUint(b, r.Image.Dev, 10)
	b = append(b, `,"ino":`...)
	b = append(strconv.AppendUint(b, r.Image.Ino, 10), '}')
	if r.Layer != "" {
		b = spec.AppendString(append(b, `,"layer":`...), r.Layer)
	}
	if len(r.Volumes) > 0 {
		b = appendList(append(b, `,"volumes":`...), r.Volumes)
	}
	if r.Resets > 0 {
		b = strconv.AppendInt(append(b, `,"resets":`...), int64(r.Resets), 10)
	}
	for i, f := range r.Files {
		b = append(b, [2]string{`,{"dev":`, `,"files":[{"dev":`}[min(1, max(0, 1-i))]...)
		b = strconv.AppendUint(b, f.Dev, 10)
		b = append(b, `,"ino":`...)
		b = append(strconv.AppendUint(b, f.Ino, 10), '}')
	}
	if len(r.Files) > 0 {
		b = append(b, ']')
	}
	for i, ino := range r.Namespaces {
		if i == 0 {
			b = append(b, `,"namespaces":[`...)
		} else {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, ino, 10)
	}
	if len(r.Namespaces) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

func (l *layerRecord) appendJSON(b []byte) []byte {
	b = append(b, '{')
	b = appendField(b, "root", l.Root)
	b = appendField(b, "key", l.Key)
	b = appendField(b, "reset", string(l.Reset))
	b = appendField(b, "consoleSocket", l.ConsoleSocket)
	b = appendField(b, "pidFile", l.PidFile)
	b = append(b, `"parents":`...)
	b = appendList(b, l.Parents)
	for i, v := range l.Volumes {
		b = append(b, [2]string{`,{"key":`, `,"volumes":[{"key":`}[min(1, max(0, 1-i))]...)
		b = append(spec.AppendString(b, v.Key), `,"parents":`...)
		b = append(appendList(b, v.Parents), '}')
	}
	if len(l.Volumes) > 0 {
		b = append(b, ']')
	}
	b = append(b, `,"memory":`...)
	return append(strconv.AppendBool(b, l.Memory), '}')
}

func appendList(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = spec.AppendString(b, s)
	}
	return append(b, ']')
}

func appendProcess(b []byte, p kernel.ProcessID) []byte {
	b = append(b, `"pid":`...)
	b = strconv.AppendInt(b, int64(p.Pid), 10)
	b = append(b, `,"startTime":`...)
	return strconv.AppendUint(b, p.Start, 10)
}

// appendField appends a member and a comma.
func appendField(b []byte, key, value string) []byte {
	b = append(spec.AppendString(b, key), ':')
	return append(spec.AppendString(b, value), ',')
}

// appendMembers appends an object without its braces.
func appendMembers(b []byte, m map[string]string) []byte {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(spec.AppendString(b, k), ':')
		b = spec.AppendString(b, m[k])
	}
	return b
}
