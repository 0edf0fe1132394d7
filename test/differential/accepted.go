package main

import (
	_ "embed"
	"fmt"
	"regexp"

	"sigs.k8s.io/yaml"
)

//go:embed accepted.yaml
var acceptedYAML []byte

// acceptance covers differences that are meant to be.
type acceptance struct {
	Resource, Field, Script, Sort, Upstream, Clipper string
	Reason                                           string

	patterns [6]*regexp.Regexp
	hits     int
}

func readAccepted() ([]acceptance, error) {
	var out []acceptance
	if err := yaml.UnmarshalStrict(acceptedYAML, &out); err != nil {
		return nil, fmt.Errorf("read accepted.yaml: %w", err)
	}
	for i := range out {
		a := &out[i]
		if a.Reason == "" {
			return nil, fmt.Errorf("accepted.yaml: entry %d gives no reason", i+1)
		}
		for j, text := range []string{a.Resource, a.Field, a.Script, a.Sort, a.Upstream, a.Clipper} {
			if text == "" {
				text = ".*"
			}
			re, err := regexp.Compile(`(?s)^(?:` + text + `)$`)
			if err != nil {
				return nil, fmt.Errorf("accepted.yaml: entry %d: %w", i+1, err)
			}
			a.patterns[j] = re
		}
	}
	return out, nil
}

func (a *acceptance) covers(d difference) bool {
	for i, text := range []string{d.Resource, d.Field, d.Script, d.Sort, d.Upstream, d.Clipper} {
		if !a.patterns[i].MatchString(text) {
			return false
		}
	}
	return true
}
