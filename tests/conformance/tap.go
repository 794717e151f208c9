package main

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// tapResult is what a program's Test Anything Protocol output says. A program
// may print several documents one after the other; they are added up.
type tapResult struct {
	passed  int // "ok", with those marked SKIP
	skipped int
	failed  int // "not ok" without TODO

	failures []string // descriptions of the failed points
	plans    int      // documents that end with a plan
	badPlan  bool     // a plan that does not match its points, or is missing
	bailed   bool
	// errors are the "error" values of diagnostics that belong to no point.
	// The hook programs report failures only so: they print no points at all.
	errors []string
}

// tapParser holds the document that is being read.
type tapParser struct {
	tapResult
	points  int  // of this document
	planned int  // -1 before a plan was seen
	open    bool // something of a document was seen
}

// parseTAP reads r to its end. Lines that are not TAP are ignored.
func parseTAP(r io.Reader) (tapResult, error) {
	p := &tapParser{planned: -1}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	inYAML := false
	for lines.Scan() {
		line := lines.Text()
		switch {
		case inYAML:
			inYAML = line != "  ..."
			p.diagnostic(line)
		case line == "  ---":
			inYAML = true
		default:
			p.line(line)
		}
	}
	p.endDocument()
	return p.tapResult, lines.Err()
}

func (p *tapParser) line(line string) {
	switch {
	case strings.HasPrefix(line, "TAP version"):
		p.endDocument()
		p.open = true
	case strings.HasPrefix(line, "Bail out!"):
		p.bailed = true
	case strings.HasPrefix(line, "1.."):
		p.plan(line[len("1.."):])
	case line == "ok" || strings.HasPrefix(line, "ok "):
		p.point(strings.TrimPrefix(line, "ok"), true)
	case line == "not ok" || strings.HasPrefix(line, "not ok "):
		p.point(strings.TrimPrefix(line, "not ok"), false)
	}
}

// plan takes what follows "1.." up to a comment.
func (p *tapParser) plan(text string) {
	text, _, _ = strings.Cut(text, "#")
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || p.planned >= 0 {
		p.badPlan = true
		return
	}
	p.open, p.planned = true, n
}

// point takes what follows "ok" or "not ok": a number, a description and a
// directive, all optional.
func (p *tapParser) point(text string, ok bool) {
	p.open = true
	p.points++
	description, directive, _ := strings.Cut(text, " # ")
	directive = strings.ToUpper(directive)
	skip, todo := strings.HasPrefix(directive, "SKIP"), strings.HasPrefix(directive, "TODO")
	switch {
	case skip:
		p.skipped++
		p.passed++
	case ok:
		p.passed++
	case !todo:
		p.failed++
		p.failures = append(p.failures, strings.TrimLeft(description, " 0123456789-"))
	}
}

// diagnostic takes a line of a diagnostic block. The suite writes them as
// indented JSON objects, one value a line.
func (p *tapParser) diagnostic(line string) {
	value, found := strings.CutPrefix(strings.TrimSpace(line), `"error": `)
	if !found || p.points > 0 {
		return
	}
	value = strings.TrimSuffix(value, ",")
	if text, err := strconv.Unquote(value); err == nil {
		value = text
	}
	p.errors = append(p.errors, value)
}

// endDocument checks the plan of the document that just ended.
func (p *tapParser) endDocument() {
	if !p.open {
		return
	}
	if p.planned != p.points {
		p.badPlan = true
	}
	if p.planned >= 0 {
		p.plans++
	}
	p.open, p.points, p.planned = false, 0, -1
}
