package cronjob

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// schedule is a parsed cron expression: for each field the values that match, as bits. every is set instead for "@every".
type schedule struct {
	minute, hour, day, month, weekday uint64
	anyDay, anyWeekday                bool // the field is a star: the other one decides alone
	every                             time.Duration
}

type field struct {
	min, max int
	names    map[string]int
}

var (
	minutes  = field{0, 59, nil}
	hours    = field{0, 23, nil}
	days     = field{1, 31, nil}
	months   = field{1, 12, map[string]int{"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12}}
	weekdays = field{0, 6, map[string]int{"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}}
)

var macros = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
	"@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

// parseSchedule reads the five fields of a cron expression, or one of its abbreviations.
func parseSchedule(text string) (*schedule, error) {
	text = strings.TrimSpace(text)
	if rest, ok := strings.CutPrefix(text, "@every "); ok {
		d, err := time.ParseDuration(rest)
		if err != nil {
			return nil, fmt.Errorf("failed to parse duration %s: %s", text, err)
		}
		return &schedule{every: max(d.Truncate(time.Second), time.Second)}, nil
	}
	if strings.HasPrefix(text, "@") {
		full, ok := macros[text]
		if !ok {
			return nil, fmt.Errorf("unrecognized descriptor: %s", text)
		}
		text = full
	}
	parts := strings.Fields(text)
	if len(parts) != 5 {
		return nil, fmt.Errorf("expected exactly 5 fields, found %d: %v", len(parts), parts)
	}
	var s schedule
	var err error
	for i, into := range []*uint64{&s.minute, &s.hour, &s.day, &s.month, &s.weekday} {
		if *into, err = []field{minutes, hours, days, months, weekdays}[i].parse(parts[i]); err != nil {
			return nil, err
		}
	}
	s.anyDay, s.anyWeekday = star(parts[2]), star(parts[4])
	return &s, nil
}

func star(text string) bool {
	for _, part := range strings.Split(text, ",") {
		if base, step, _ := strings.Cut(part, "/"); (base == "*" || base == "?") && (step == "" || step == "1") {
			return true
		}
	}
	return false
}

// parse reads a list of values, ranges and steps.
func (f field) parse(text string) (set uint64, err error) {
	for _, part := range strings.Split(text, ",") {
		one, err := f.parseRange(part)
		if err != nil {
			return 0, err
		}
		set |= one
	}
	return set, nil
}

func (f field) parseRange(text string) (set uint64, err error) {
	base, stepText, stepped := strings.Cut(text, "/")
	low, highText, isRange := strings.Cut(base, "-")
	first, last := f.min, f.max
	if low != "*" && low != "?" {
		if first, err = f.value(low); err != nil {
			return 0, err
		}
		switch {
		case isRange:
			if last, err = f.value(highText); err != nil {
				return 0, err
			}
		case !stepped: // "3/5" goes on to the end
			last = first
		}
	} else if isRange {
		return 0, fmt.Errorf("failed to parse int from %s", text)
	}
	step := 1
	if stepped {
		if step, err = strconv.Atoi(stepText); err != nil {
			return 0, fmt.Errorf("failed to parse int from %s: %w", stepText, err)
		}
	}
	switch {
	case first < f.min:
		return 0, fmt.Errorf("beginning of range (%d) below minimum (%d): %s", first, f.min, text)
	case last > f.max:
		return 0, fmt.Errorf("end of range (%d) above maximum (%d): %s", last, f.max, text)
	case first > last:
		return 0, fmt.Errorf("beginning of range (%d) beyond end of range (%d): %s", first, last, text)
	case step <= 0:
		return 0, fmt.Errorf("step of range should be a positive number: %s", text)
	}
	for v := first; v <= last; v += step {
		set |= 1 << v
	}
	return set, nil
}

func (f field) value(text string) (int, error) {
	if n, ok := f.names[strings.ToLower(text)]; ok {
		return n, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("failed to parse int from %s", text)
	}
	return n, nil
}

// next returns the first time after t, in t's zone; zero if there is none within five years.
func (s *schedule) next(t time.Time) time.Time {
	if s.every > 0 {
		return t.Add(s.every).Truncate(time.Second)
	}
	limit := t.Year() + 5
	t = t.Add(time.Minute - time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond()))
	for t.Year() <= limit {
		switch {
		case s.month&(1<<t.Month()) == 0:
			t = time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, t.Location())
		case !s.onDay(t):
			t = startOfNextDay(t)
		case s.hour&(1<<t.Hour()) == 0:
			// In steps of real time, so that an hour that the clock skips or repeats is no trap.
			t = t.Add(time.Hour - time.Duration(t.Minute())*time.Minute)
		case s.minute&(1<<t.Minute()) == 0:
			t = t.Add(time.Duration(s.minutesUntil(t.Minute())) * time.Minute)
		default:
			return t
		}
	}
	return time.Time{}
}

// minutesUntil is how far it is to the next minute that matches, at most to the next hour.
func (s *schedule) minutesUntil(minute int) int {
	later := s.minute &^ (1<<minute - 1)
	if later == 0 {
		return 60 - minute
	}
	return bits.TrailingZeros64(later) - minute
}

func startOfNextDay(t time.Time) time.Time {
	next := time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, t.Location())
	if !next.After(t) {
		next = t.Add(time.Hour)
	}
	return next
}

func (s *schedule) onDay(t time.Time) bool {
	day, weekday := s.day&(1<<t.Day()) != 0, s.weekday&(1<<t.Weekday()) != 0
	if s.anyDay || s.anyWeekday {
		return day && weekday
	}
	return day || weekday
}
