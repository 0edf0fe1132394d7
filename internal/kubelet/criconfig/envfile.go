package criconfig

import (
	"fmt"
	"strings"
)

// parseEnvFile returns the value of a key in a file of NAME='value' lines; "" when it isn't there. Values stand in single quotes, which may
// span lines and know no escapes; what follows the closing quote may only be a comment.
func parseEnvFile(data []byte, key string) (string, error) {
	rest, line := string(data), 0
	for rest != "" {
		var text string
		text, rest, _ = strings.Cut(rest, "\n")
		line++
		text = strings.TrimLeft(text, " \t")
		if text == "" || text[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(text, "=")
		switch {
		case !ok:
			return "", fmt.Errorf("invalid environment variable format at line %d: missing '='", line)
		case strings.TrimRight(name, " \t") == "":
			return "", fmt.Errorf("invalid environment variable format at line %d: empty variable name", line)
		case strings.TrimRight(name, " \t") != name:
			return "", fmt.Errorf("invalid environment variable format at line %d: whitespace before '=' is not allowed", line)
		case strings.TrimLeft(value, " \t") != value:
			// As in a shell: NAME= 'x' sets NAME to nothing.
			if name == key {
				return "", nil
			}
			continue
		case !strings.HasPrefix(value, "'"):
			return "", fmt.Errorf("invalid environment variable format at line %d: value must be enclosed in single quotes", line)
		}
		start, body := line, value[1:]
		end := strings.IndexByte(body, '\'')
		for end < 0 {
			if rest == "" {
				return "", fmt.Errorf("invalid environment variable format starting at line %d: unclosed single quote", start)
			}
			var next string
			next, rest, _ = strings.Cut(rest, "\n")
			line++
			body += "\n" + next
			end = strings.IndexByte(body, '\'')
		}
		if tail := strings.TrimLeft(body[end+1:], " \t"); tail != "" && tail[0] != '#' {
			return "", fmt.Errorf("invalid environment variable format at line %d: unexpected content after closing quote", line)
		}
		if name == key {
			return body[:end], nil
		}
	}
	return "", nil
}
