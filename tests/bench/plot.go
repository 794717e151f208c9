package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Sizes in SVG user units (pixels).
const (
	panelWidth  = 236.0
	panelHeight = 232.0
	plotTop     = 44.0  // from the panel's top to the plot area
	plotHeight  = 142.0 // of the plot area
	plotLeft    = 40.0  // room for the axis numbers
	headHeight  = 74.0  // title and legend
	footHeight  = 26.0
)

// panel is one small plot with a linear axis of its own from 0, because the
// operations differ by a factor of a hundred.
type panel struct {
	title  string
	unit   string
	groups []group
}

// group is a label and one bar for each runtime.
type group struct {
	label string
	key   key
}

// canvas collects SVG elements.
type canvas struct{ strings.Builder }

func (c *canvas) put(format string, args ...any) { fmt.Fprintf(c, format+"\n", args...) }

// write puts text; anchor is start, middle or end.
func (c *canvas) write(x, y, size float64, anchor, fill, text string) {
	c.put(`<text x="%.1f" y="%.1f" font-size="%.0f" text-anchor="%s" fill="%s">%s</text>`,
		x, y, size, anchor, fill, html.EscapeString(text))
}

// plot draws all panels: one at a time above, N at once below.
func (r *report) plot() string {
	rows := [][]panel{r.panels(1), r.panels(r.parallel)}
	columns := max(len(rows[0]), len(rows[1]))
	width, height := panelWidth*float64(max(columns, 4))+24, headHeight+2*panelHeight+footHeight
	var c canvas
	c.put(`<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="sans-serif">`,
		width, height, width, height)
	c.put(`<rect width="100%%" height="100%%" fill="#ffffff"/>`)
	c.write(20, 30, 18, "start", "#1a1a1a", "Median latency; whiskers to the 95th percentile; lower is better")
	r.legend(&c)
	for y, row := range rows {
		for x, p := range row {
			r.panel(&c, p, 12+float64(x)*panelWidth, headHeight+float64(y)*panelHeight)
		}
	}
	c.write(20, height-10, 11, "start", "#666666", strings.Join(r.heading()[:1], ""))
	c.put(`</svg>`)
	return c.String()
}

// panels makes one for each measured operation, and in the row of one at a
// time one for the memory.
func (r *report) panels(n int) []panel {
	have := r.samples.conditions()
	var out []panel
	for _, op := range allOps() {
		p := panel{title: fmt.Sprintf("%s, %s", op, key{N: n}.short()), unit: "ms"}
		for _, gap := range []int64{0, r.gapMS} {
			k := key{Op: op, Metric: latency, N: n, GapMS: gap}
			if slices.Contains(have, k) {
				p.groups = append(p.groups, group{k.gaps(), k})
			}
		}
		if len(p.groups) > 0 {
			out = append(out, p)
		}
	}
	if m := memoryKey(pss, ""); n > 1 && slices.Contains(have, m) {
		out = append(out, panel{"waiting init, memory", "KiB", []group{
			{"PSS", m}, {"RSS", memoryKey(rss, "")},
		}})
	}
	return out
}

func (k key) short() string {
	if k.N == 1 {
		return "one at a time"
	}
	return fmt.Sprintf("%d at once", k.N)
}

// color of a runtime: ours stands out, the peers are calm.
func color(name string) string {
	switch name {
	case nameADL:
		return "#0b7285"
	case nameCrun:
		return "#f0a04b"
	default:
		return "#a9b4bd"
	}
}

func (r *report) legend(c *canvas) {
	x := 20.0
	for _, t := range r.Tools {
		label := t.Version
		if !strings.HasPrefix(label, t.Name) {
			label = t.Name + ": " + label
		}
		c.put(`<rect x="%.1f" y="44" width="12" height="12" fill="%s"/>`, x, color(t.Name))
		c.write(x+18, 54, 12, "start", "#1a1a1a", label)
		x += 40 + 7*float64(len(label))
	}
}

// panel draws one panel with its top left corner at x, y.
func (r *report) panel(c *canvas, p panel, x, y float64) {
	top := r.highest(p)
	step := axisStep(top)
	scale := plotHeight / (math.Ceil(top*1.12/step) * step)
	left, bottom := x+plotLeft, y+plotTop+plotHeight
	right := x + panelWidth - 10
	c.write(left, y+plotTop-20, 13, "start", "#1a1a1a", p.title+" ("+p.unit+")")
	for v := 0.0; v*scale <= plotHeight*1.001; v += step {
		c.put(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#e3e6e8"/>`, left, bottom-v*scale, right, bottom-v*scale)
		c.write(left-5, bottom-v*scale+4, 10, "end", "#666666", fmt.Sprintf("%.6g", v))
	}
	span := (right - left) / float64(len(p.groups))
	for i, g := range p.groups {
		r.group(c, g, left+float64(i)*span, bottom, span, scale)
	}
}

// group draws the bars of all runtimes side by side, each with its median above
// the whisker.
func (r *report) group(c *canvas, g group, x, bottom, span, scale float64) {
	slot := span * 0.9 / float64(len(r.runtimes))
	for i, name := range r.runtimes {
		s, ok := r.samples.Summary(g.key.with(name))
		if !ok {
			continue
		}
		bx, w := x+span*0.05+float64(i)*slot, slot*0.84
		mid, barTop, whisker := bx+w/2, bottom-s.Median*scale, bottom-s.P95*scale
		c.put(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`, bx, barTop, w, bottom-barTop, color(name))
		c.put(`<path d="M%.1f %.1fV%.1fM%.1f %.1fH%.1f" stroke="#444444" fill="none"/>`,
			mid, barTop, whisker, mid-w/5, whisker, mid+w/5)
		c.write(mid, whisker-4, 10, "middle", "#1a1a1a", shortNumber(s.Median))
	}
	c.write(x+span/2, bottom+16, 11, "middle", "#444444", g.label)
	if v, ok := r.samples.ratio(g.key, nameADL, nameCrun); ok {
		c.write(x+span/2, bottom+30, 11, "middle", color(nameADL), fmt.Sprintf("%.2f x crun", v))
	}
}

// highest is the largest 95th percentile in the panel.
func (r *report) highest(p panel) float64 {
	top := 0.0
	for _, g := range p.groups {
		for _, name := range r.runtimes {
			if s, ok := r.samples.Summary(g.key.with(name)); ok {
				top = max(top, s.P95)
			}
		}
	}
	return top
}

// axisStep is a round distance (1, 2 or 5 times a power of ten) that gives three
// to nine marks up to top.
func axisStep(top float64) float64 {
	if top <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(top/3)))
	for _, m := range []float64{5, 2} {
		if top/(unit*m) >= 3 {
			return unit * m
		}
	}
	return unit
}

// shortNumber has about three digits.
func shortNumber(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
