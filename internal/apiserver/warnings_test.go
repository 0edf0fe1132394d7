package apiserver

import (
	"fmt"
	"strings"
	"testing"
)

func TestWarningsHaveALimit(t *testing.T) {
	var w warnings
	for range 2 {
		w.add("short")
		w.add(strings.Repeat("ä", 4000))
	}
	if len(w.shown) != 2 || len(w.shown[1]) != 8000 {
		t.Errorf("below the limit all are shown whole, each once: %d", len(w.shown))
	}
	for i := range 10_000 {
		w.add(fmt.Sprintf("%0300d", i))
	}
	if w.shown[0] != "short" || len([]rune(w.shown[1])) != maxWarning || w.runes < maxWarned || w.runes > maxWarned+maxWarning || len(w.all) != len(w.shown) {
		t.Errorf("%d are shown of %d, of %d runes", len(w.shown), len(w.all), w.runes)
	}
}
