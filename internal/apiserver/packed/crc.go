package packed

import "hash/crc32"

// A matrix is a linear map of check sums, a column for each bit.
type matrix [32]uint32

func (m *matrix) times(v uint32) (sum uint32) {
	for i := 0; v != 0; i, v = i+1, v>>1 {
		if v&1 != 0 {
			sum ^= m[i]
		}
	}
	return sum
}

func (m *matrix) squared() (out matrix) {
	for i := range m {
		out[i] = m.times(m[i])
	}
	return out
}

// shifts[k] is what 2^k zero bytes do to a check sum.
var shifts = func() (out [48]matrix) {
	var m matrix // one zero bit
	m[0] = crc32.IEEE
	for i := 1; i < 32; i++ {
		m[i] = 1 << (i - 1)
	}
	for range 3 {
		m = m.squared()
	}
	for k := range out {
		out[k] = m
		m = m.squared()
	}
	return out
}()

// combine returns the check sum of two pieces from their own and the length of the second.
func combine(a, b uint32, length int) uint32 {
	for k := 0; length != 0; k, length = k+1, length>>1 {
		if length&1 != 0 {
			a = shifts[k].times(a)
		}
	}
	return a ^ b
}
