package store

// BreakForTest does what a fatal log line of etcd's does.
func BreakForTest(s *Store, err error) { s.backend.(*embedded).fail(err) }

// CompactTurnForTest takes one turn of regular compaction.
var CompactTurnForTest = (*Store).takeTurn

// CompactTurn is compactTurn.
type CompactTurn = compactTurn

// TrimBeforeForTest is trimBefore.
var TrimBeforeForTest = (*Store).trimBefore

// LogLenForTest is how many changes a table's log holds.
func LogLenForTest(t *Table) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.recent.len()
}
