package criconfig

import "strings"

// Expand replaces $(NAME) by what lookup returns for it. A name that isn't known stays as it is; $$ stands for one $.
func Expand(s string, lookup func(string) (string, bool)) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(s[i+2:], ')')
			if end < 0 {
				b.WriteString("$(")
				i++
				continue
			}
			name := s[i+2 : i+2+end]
			if v, ok := lookup(name); ok {
				b.WriteString(v)
			} else {
				b.WriteString("$(" + name + ")")
			}
			i += end + 2
		default:
			b.WriteByte('$')
			b.WriteByte(s[i+1])
			i++
		}
	}
	return b.String()
}

func expandAll(list []string, lookup func(string) (string, bool)) []string {
	var out []string
	for _, s := range list {
		out = append(out, Expand(s, lookup))
	}
	return out
}

func envLookup(env []EnvVar) func(string) (string, bool) {
	values := make(map[string]string, len(env))
	for _, e := range env {
		values[e.Name] = e.Value
	}
	return func(name string) (string, bool) {
		v, ok := values[name]
		return v, ok
	}
}

// ExpandSubPath expands a subPathExpr: unlike elsewhere, a name that isn't known is an error, returned as ok false with the name.
func ExpandSubPath(expr string, env []EnvVar) (path, missing string, ok bool) {
	lookup := envLookup(env)
	path = Expand(expr, func(name string) (string, bool) {
		v, found := lookup(name)
		if !found && missing == "" {
			missing = name
		}
		return v, found
	})
	return path, missing, missing == ""
}
