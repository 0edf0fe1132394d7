package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// The table's columns.
const (
	clipperSide  = "Clipper"
	upstreamSide = "upstream v1.36.3"
	floorColumn  = "floor"
)

type row struct{ what, figure string }

// results are what one side's stage gave, in the table's order, and what failed.
type results struct {
	side     string
	rows     []row
	failures []failure
}

type failure struct {
	Side, Row, Why string
}

func (r *results) add(what, format string, args ...any) {
	r.rows = append(r.rows, row{what, fmt.Sprintf(format, args...)})
	log.Printf("%s: %s: %s", r.side, what, r.rows[len(r.rows)-1].figure)
}

func (r *results) fail(what string, err error) {
	r.failures = append(r.failures, failure{r.side, what, err.Error()})
	log.Printf("%s: %s failed: %v", r.side, what, err)
}

// table holds every figure by row and column. A cell that no side filled is "n/a", and the failures say why.
type table struct {
	Taken    time.Time
	Machine  string
	Rows     []string
	Figures  map[string]map[string]string // by row and column
	Failures []failure
}

func newTable() *table {
	load, _ := os.ReadFile("/proc/loadavg")
	return &table{
		Taken:   time.Now().UTC().Truncate(time.Second),
		Machine: fmt.Sprintf("%d cores, load average before the run %s", runtime.NumCPU(), strings.Join(strings.Fields(string(load))[:3], " ")),
		Figures: map[string]map[string]string{},
	}
}

func (t *table) merge(r results) {
	for _, row := range r.rows {
		if t.Figures[row.what] == nil {
			t.Rows, t.Figures[row.what] = append(t.Rows, row.what), map[string]string{}
		}
		t.Figures[row.what][r.side] = row.figure
	}
	t.Failures = append(t.Failures, r.failures...)
}

// cells are the table's lines, its head first.
func (t *table) cells() [][]string {
	columns := []string{clipperSide, upstreamSide, floorColumn}
	columns = slices.DeleteFunc(columns, func(c string) bool {
		return !slices.ContainsFunc(t.Rows, func(row string) bool { return t.Figures[row][c] != "" })
	})
	lines := [][]string{append(append([]string{""}, columns...), "times better")}
	for _, row := range t.Rows {
		line := []string{row}
		for _, c := range columns {
			figure := t.Figures[row][c]
			if figure == "" {
				figure = "n/a"
			}
			line = append(line, figure)
		}
		lines = append(lines, append(line, timesBetter(t.Figures[row][clipperSide], t.Figures[row][upstreamSide])))
	}
	return lines
}

// timesBetter compares two figures in the same unit: a rate should be high, anything else low.
func timesBetter(clipper, upstream string) string {
	x, unitX := split(clipper)
	y, unitY := split(upstream)
	if unitX != unitY || y <= 0 || x <= 0 {
		return ""
	}
	if strings.HasSuffix(unitX, "/s") {
		x, y = y, x
	}
	return fmt.Sprintf("%.1f", y/x)
}

func split(figure string) (float64, string) {
	number, unit, _ := strings.Cut(figure, " ")
	n, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, figure
	}
	return n, unit
}

func (t *table) print(to io.Writer) {
	w := tabwriter.NewWriter(to, 0, 8, 3, ' ', 0)
	for _, line := range t.cells() {
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	w.Flush()
	fmt.Fprintf(to, "\n%s, %s\n", t.Taken.Format(time.RFC3339), t.Machine)
	for _, f := range t.Failures {
		fmt.Fprintf(to, "%s, %s: %s\n", f.Side, f.Row, f.Why)
	}
}

// save writes the table as Markdown and as JSON.
func (t *table) save(path string) error {
	var md strings.Builder
	for i, line := range t.cells() {
		fmt.Fprintf(&md, "| %s |\n", strings.Join(line, " | "))
		if i == 0 {
			fmt.Fprintf(&md, "|%s\n", strings.Repeat(" --- |", len(line)))
		}
	}
	fmt.Fprintf(&md, "\n%s, %s\n\n", t.Taken.Format(time.RFC3339), t.Machine)
	for _, f := range t.Failures {
		fmt.Fprintf(&md, "- %s, %s: %s\n", f.Side, f.Row, f.Why)
	}
	if err := os.WriteFile(path+".md", []byte(md.String()), 0o644); err != nil {
		return err
	}
	data, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path+".json", append(data, '\n'), 0o644)
}
