package apiserver

import (
	"slices"
	"unicode/utf8"
)

// maxWarned is how many runes all Warning headers of an answer have. When there are more, each has maxWarning at most, and those after the
// limit are left out.
const (
	maxWarned  = 4 << 10
	maxWarning = 256
)

// warnings are the texts of Warning headers, each once.
type warnings struct {
	all, shown []string
	runes      int // of those that are shown
	cut        bool
}

func (w *warnings) add(text string) {
	if text == "" || w.cut && w.runes >= maxWarned || slices.Contains(w.all, text) {
		return
	}
	w.all = append(w.all, text)
	if !utf8.ValidString(text) {
		return
	}
	if w.cut || w.runes+utf8.RuneCountInString(text) <= maxWarned {
		w.show(text)
		return
	}
	w.cut, w.runes, w.shown = true, 0, nil
	for _, text := range w.all {
		if utf8.ValidString(text) {
			w.show(text)
		}
	}
}

func (w *warnings) show(text string) {
	n := utf8.RuneCountInString(text)
	if w.cut && n > maxWarning {
		text, n = string([]rune(text)[:maxWarning]), maxWarning
	}
	w.shown, w.runes = append(w.shown, text), w.runes+n
}
