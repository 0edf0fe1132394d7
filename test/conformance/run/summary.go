package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
)

// report is what we need of a JUnit file.
type report struct {
	Suites []struct {
		Cases []struct {
			Name   string `xml:"name,attr"`
			Status string `xml:"status,attr"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

var sigPattern = regexp.MustCompile(`\[(sig-[a-z-]+)\]`)

// tally counts the specs of one SIG.
type tally struct{ passed, failed int }

// summarize prints a table by SIG, then the names of the failed specs. It returns whether all passed and there were any.
func summarize(dir string, out io.Writer) (bool, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*", "junit*.xml"))
	if err != nil {
		return false, err
	}
	bySIG := map[string]*tally{}
	var failed []string
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return false, err
		}
		var r report
		if err := xml.Unmarshal(data, &r); err != nil {
			return false, fmt.Errorf("%s: %w", path, err)
		}
		for _, s := range r.Suites {
			for _, c := range s.Cases {
				m := sigPattern.FindStringSubmatch(c.Name)
				if c.Status == "skipped" || m == nil || !strings.Contains(c.Name, "[Conformance]") {
					continue
				}
				t := bySIG[m[1]]
				if t == nil {
					t = &tally{}
					bySIG[m[1]] = t
				}
				if c.Status == "passed" {
					t.passed++
					continue
				}
				t.failed++
				failed = append(failed, c.Name)
			}
		}
	}
	printTable(out, bySIG)
	slices.Sort(failed)
	if len(failed) > 0 {
		fmt.Fprintf(out, "\nFailed:\n  %s\n", strings.Join(failed, "\n  "))
	}
	return len(failed) == 0 && len(bySIG) > 0, nil
}

func printTable(out io.Writer, bySIG map[string]*tally) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "SIG\tpassed\tfailed\ttotal")
	var sum tally
	for _, sig := range slices.Sorted(maps.Keys(bySIG)) {
		t := bySIG[sig]
		sum.passed, sum.failed = sum.passed+t.passed, sum.failed+t.failed
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", sig, t.passed, t.failed, t.passed+t.failed)
	}
	fmt.Fprintf(w, "all\t%d\t%d\t%d\n", sum.passed, sum.failed, sum.passed+sum.failed)
	w.Flush()
}
