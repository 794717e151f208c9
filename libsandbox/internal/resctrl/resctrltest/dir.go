// Package resctrltest has a directory that plays resctrl, for tests on machines without.
package resctrltest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Dir is resctrl on a machine with two caches. Writing to tasks moves nobody.
func Dir(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	err := Put(dir, map[string]string{
		"schemata":                 schemata,
		"tasks":                    "1\n",
		"mon_groups/":              "",
		"mon_data/":                "",
		"info/last_cmd_status":     "ok\n",
		"info/L3/cbm_mask":         "fffff\n",
		"info/L3/min_cbm_bits":     "1\n",
		"info/L3/num_closids":      "16\n",
		"info/MB/bandwidth_gran":   "10\n",
		"info/MB/min_bandwidth":    "10\n",
		"info/MB/delay_linear":     "1\n",
		"info/MB/num_closids":      "8\n",
		"info/L3_MON/mon_features": "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n",
	})
	if err != nil {
		tb.Fatal(err)
	}
	return dir
}

const schemata = "    L3:0=fffff;1=fffff\n    MB:0= 100;1= 100\n"

// Mkdir makes a group, with the files that the kernel would put in it.
func Mkdir(path string) error {
	if err := unix.Mkdir(path, 0o755); err != nil {
		return err
	}
	files := map[string]string{
		"tasks":                              "",
		"mon_data/mon_L3_00/llc_occupancy":   "4096\n",
		"mon_data/mon_L3_00/mbm_total_bytes": "100\n",
		"mon_data/mon_L3_00/mbm_local_bytes": "60\n",
		"mon_data/mon_L3_01/llc_occupancy":   "Unavailable\n",
		"mon_data/mon_L3_01/mbm_total_bytes": "7\n",
		"mon_data/mon_L3_01/mbm_local_bytes": "Error\n",
	}
	if filepath.Base(filepath.Dir(path)) != "mon_groups" {
		files["schemata"] = schemata
		files["mon_groups/"] = ""
	}
	return Put(path, files)
}

// Rmdir removes a group and what is in it.
func Rmdir(path string) error {
	if err := unix.Access(path, unix.F_OK); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// Put writes files below dir. A name that ends in a slash is a directory.
func Put(dir string, files map[string]string) error {
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
		} else if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
