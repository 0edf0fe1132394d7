package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"sigs.k8s.io/yaml"
)

// readExcluded returns the expressions of the specs that this kind of machine can't run.
func readExcluded(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []struct{ Specs, Why string }
	if err := yaml.UnmarshalStrict(data, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var out []string
	for _, e := range list {
		if _, err := regexp.Compile(e.Specs); err != nil || e.Why == "" || e.Specs == "" {
			return nil, fmt.Errorf("%s: %q: name specs by an expression, and why they are excluded", path, e.Specs)
		}
		out = append(out, e.Specs)
	}
	return out, nil
}

// report is what we need of a JUnit file.
type report struct {
	Suites []struct {
		Cases []struct {
			Name    string `xml:"name,attr"`
			Status  string `xml:"status,attr"`
			Skipped struct {
				Message string `xml:"message,attr"`
			} `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

type tally struct {
	passed, failed int
	skipped        map[string]int // by reason
}

// group is what a spec's first words name: "Device Plugin", "CPU Manager".
var group = regexp.MustCompile(`\[It\] (?:\[[^\]]*\] )*([A-Z][A-Za-z/]*(?: [A-Z][A-Za-z]*)*)`)

// summarize prints a table by group, then the names of the failed specs and why specs skipped themselves. It fails if any failed, or none ran.
func summarize(path string, out io.Writer) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var r report
	if err := xml.Unmarshal(data, &r); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	groups, all := map[string]*tally{}, &tally{skipped: map[string]int{}}
	var failed []string
	for _, s := range r.Suites {
		for _, c := range s.Cases {
			m := group.FindStringSubmatch(c.Name)
			if m == nil || c.Status == "skipped" && c.Skipped.Message == "skipped" { // not asked for
				continue
			}
			g := groups[m[1]]
			if g == nil {
				g = &tally{skipped: map[string]int{}}
				groups[m[1]] = g
			}
			switch c.Status {
			case "passed":
				g.passed++
				all.passed++
			case "skipped":
				reason := strings.TrimPrefix(c.Skipped.Message, "skipped - ")
				g.skipped[reason]++
				all.skipped[reason]++
			default:
				g.failed++
				all.failed++
				failed = append(failed, c.Name)
			}
		}
	}
	print(out, groups, all)
	if len(failed) > 0 {
		fmt.Fprintf(out, "\nFailed:\n  %s\n", strings.Join(slices.Sorted(slices.Values(failed)), "\n  "))
		return fmt.Errorf("%d specs failed", len(failed))
	}
	if all.passed == 0 {
		return fmt.Errorf("no spec ran")
	}
	return nil
}

func print(out io.Writer, groups map[string]*tally, all *tally) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "group\tpassed\tfailed\tskipped")
	row := func(name string, t *tally) {
		skipped := 0
		for _, n := range t.skipped {
			skipped += n
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", name, t.passed, t.failed, skipped)
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		row(name, groups[name])
	}
	row("all", all)
	w.Flush()
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		for _, reason := range slices.Sorted(maps.Keys(groups[name].skipped)) {
			fmt.Fprintf(out, "skipped, %s, %d: %s\n", name, groups[name].skipped[reason], reason)
		}
	}
}
