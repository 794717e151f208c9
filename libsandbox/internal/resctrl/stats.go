package resctrl

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Stats is what resctrl says of a container's group. As JSON it is intel_rdt of runc's
// stats events (runc, types/events.go); what the hardware does not have is left out.
type Stats struct {
	// Cache is what can be shared out of the last-level cache.
	Cache *CacheInfo `json:"l3_cache_info,omitempty"`
	// CacheRoot and CacheSchema are the L3 lines of the host's class and the group's.
	CacheRoot   string `json:"l3_cache_schema_root,omitempty"`
	CacheSchema string `json:"l3_cache_schema,omitempty"`
	// Bandwidth is what can be shared out of the bandwidth to memory.
	Bandwidth *BandwidthInfo `json:"mem_bw_info,omitempty"`
	// BandwidthRoot and BandwidthSchema are the MB lines of the host's class and the group's.
	BandwidthRoot   string `json:"mem_bw_schema_root,omitempty"`
	BandwidthSchema string `json:"mem_bw_schema,omitempty"`
	// Schemata are all lines of the group's class.
	Schemata []string `json:"schemata,omitempty"`
	// Traffic and Occupancy have an entry for each cache. Without enableMonitoring they
	// count everybody in the class.
	Traffic   []Traffic   `json:"mbm_stats,omitempty"`
	Occupancy []Occupancy `json:"cmt_stats,omitempty"`
}

// CacheInfo is info/L3.
type CacheInfo struct {
	Mask    string `json:"cbm_mask,omitempty"`
	MinBits uint64 `json:"min_cbm_bits,omitempty"`
	Classes uint64 `json:"num_closids,omitempty"`
}

// BandwidthInfo is info/MB.
type BandwidthInfo struct {
	Granularity uint64 `json:"bandwidth_gran,omitempty"`
	DelayLinear uint64 `json:"delay_linear,omitempty"`
	Min         uint64 `json:"min_bandwidth,omitempty"`
	Classes     uint64 `json:"num_closids,omitempty"`
}

// Traffic is the bytes between a cache and memory since the group was made.
type Traffic struct {
	Total uint64 `json:"mbm_total_bytes"`
	Local uint64 `json:"mbm_local_bytes"` // to the cache's own node
}

// Occupancy is the bytes of a cache that the group has in use.
type Occupancy struct {
	Bytes uint64 `json:"llc_occupancy"`
}

// Stats reads what there is.
func (g *Group) Stats() (*Stats, error) {
	root, err := g.fs.read(g.fs.Dir + "/schemata")
	if err != nil {
		return nil, err
	}
	own, err := g.fs.read(g.dir + "/schemata")
	if err != nil {
		return nil, err
	}
	s := &Stats{Schemata: strings.Split(own, "\n")}
	info := g.fs.Dir + "/info/"
	if isDir(info + "L3") {
		mask, err := g.fs.read(info + "L3/cbm_mask")
		if err != nil {
			return nil, err
		}
		s.Cache = &CacheInfo{mask, g.fs.number(info + "L3/min_cbm_bits"), g.fs.number(info + "L3/num_closids")}
		s.CacheRoot, s.CacheSchema = lineOf("L3:", root), lineOf("L3:", own)
	}
	if isDir(info + "MB") {
		s.Bandwidth = &BandwidthInfo{
			g.fs.number(info + "MB/bandwidth_gran"), g.fs.number(info + "MB/delay_linear"),
			g.fs.number(info + "MB/min_bandwidth"), g.fs.number(info + "MB/num_closids"),
		}
		s.BandwidthRoot, s.BandwidthSchema = lineOf("MB:", root), lineOf("MB:", own)
	}
	return s, g.count(s)
}

// count reads the counters.
func (g *Group) count(s *Stats) error {
	features, err := g.fs.read(g.fs.Dir + "/info/L3_MON/mon_features")
	if err != nil {
		return nil // the hardware does not count
	}
	list := strings.Fields(features)
	total, local := slices.Contains(list, "mbm_total_bytes"), slices.Contains(list, "mbm_local_bytes")
	occupancy := slices.Contains(list, "llc_occupancy")
	data := filepath.Join(g.dir, "mon_data")
	if g.mon != "" {
		data = filepath.Join(g.mon, "mon_data")
	}
	caches, err := os.ReadDir(data)
	if err != nil {
		return fmt.Errorf("resctrl counters: %w", err)
	}
	for _, c := range caches {
		dir := filepath.Join(data, c.Name())
		if !strings.HasPrefix(c.Name(), "mon_L3_") {
			continue
		}
		if total || local {
			s.Traffic = append(s.Traffic, Traffic{g.fs.number(dir + "/mbm_total_bytes"), g.fs.number(dir + "/mbm_local_bytes")})
		}
		if occupancy {
			s.Occupancy = append(s.Occupancy, Occupancy{g.fs.number(dir + "/llc_occupancy")})
		}
	}
	return nil
}

// lineOf is the line of schemata that begins so.
func lineOf(resource, schemata string) string {
	for line := range strings.Lines(schemata) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, resource) {
			return line
		}
	}
	return ""
}

func isDir(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}
