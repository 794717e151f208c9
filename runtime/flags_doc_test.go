package runtime

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestFlagsPage compares docs/flags.md with the verb table: a flag is there if and
// only if the page says so.
func TestFlagsPage(t *testing.T) {
	raw, err := os.ReadFile("../docs/flags.md")
	if err != nil {
		t.Fatal(err)
	}
	global, verbs := Commands()
	have := map[string][]string{"": flagNames(global)} // by verb
	for _, v := range verbs {
		have[v.Name] = flagNames(v.Flags)
	}
	have[""] = append(have[""], "help", "h")
	said := map[string][]string{}
	var section []string
	for line := range strings.Lines(string(raw)) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = strings.Split(strings.TrimSpace(title), ", ")
		}
		verb, flags, here, ok := flagRow(line)
		if !ok {
			continue
		}
		on := []string{verb}
		switch {
		case verb != "":
		case section[0] == "Global":
			on = []string{""}
		case have[here] != nil: // "run": one of the section's verbs only
			on = []string{here}
		default:
			on = section
		}
		for _, v := range on {
			for _, f := range flags {
				if is, should := slices.Contains(have[v], f), here != "no" && here != "not"; is != should {
					t.Errorf("%s %s: the page says %q, the verb table says %t", v, f, here, is)
				}
				said[v] = append(said[v], f)
			}
		}
	}
	for v, flags := range have {
		for _, f := range flags {
			if !slices.Contains(said[v], f) {
				t.Errorf("the page lacks %s of %q", f, v)
			}
		}
	}
}

func flagNames(flags []cli.Flag) []string {
	var names []string
	for _, f := range flags {
		names = append(names, f.Names()...)
	}
	return names
}

// flagRow takes a row of the page apart; here is the first word of the last column.
func flagRow(line string) (verb string, flags []string, here string, ok bool) {
	cells := strings.Split(strings.ReplaceAll(line, `\|`, " "), "|")
	if len(cells) != 6 || !strings.Contains(cells[1], "`-") {
		return "", nil, "", false
	}
	for _, m := range regexp.MustCompile("`--?([A-Za-z0-9-]+)").FindAllStringSubmatch(cells[1], -1) {
		flags = append(flags, m[1])
	}
	if first, _, _ := strings.Cut(strings.TrimSpace(cells[1]), " "); !strings.HasPrefix(first, "`") {
		verb = first
	}
	here = regexp.MustCompile("[a-z]+").FindString(cells[4])
	return verb, flags, here, true
}
