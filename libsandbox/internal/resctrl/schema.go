package resctrl

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// holds says whether schemata, as the kernel prints them, have what line asks for: for
// each cache that it names, the same value. A bandwidth may be rounded up to a multiple
// of step, as the kernel does (bw_validate).
//
//	L3:0=fffff;1=0ff00
//	MB:0= 100;1=  50
func holds(schemata, line string, step uint64) (bool, error) {
	resource, values, err := parse(line)
	if err != nil {
		return false, err
	}
	for have := range strings.Lines(schemata) {
		r, is, err := parse(have)
		if err != nil || r != resource {
			continue
		}
		for id, v := range values {
			if is[id] != v && (r != "MB" || is[id] != (v+step-1)/step*step) {
				return false, nil
			}
		}
		return true, nil
	}
	return false, nil
}

// parse takes a line of schemata apart. Of memory bandwidth the values are decimal,
// otherwise bit masks.
func parse(line string) (resource string, values map[string]uint64, err error) {
	resource, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
	if !ok {
		return "", nil, fmt.Errorf("%q: not a line such as L3:0=ff", strings.TrimSpace(line))
	}
	base := 16
	if strings.HasSuffix(resource, "MB") || strings.HasSuffix(resource, "MBA") {
		base = 10
	}
	values = make(map[string]uint64)
	for part := range strings.SplitSeq(rest, ";") {
		id, value, ok := strings.Cut(part, "=")
		if !ok && strings.TrimSpace(part) == "" {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(value), base, 64)
		if !ok || err != nil {
			return "", nil, fmt.Errorf("%q: not a cache's number and a value", part)
		}
		values[strings.TrimSpace(id)] = n
	}
	return resource, values, nil
}

// granularity is the step of memory bandwidth, at least 1.
func (fs *FS) granularity() uint64 {
	return max(1, fs.number(filepath.Join(fs.Dir, "info/MB/bandwidth_gran")))
}

// number reads a counter; 0 where there is none, or the hardware does not know
// ("Unavailable", "Error").
func (fs *FS) number(path string) uint64 {
	text, err := fs.read(path)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}
