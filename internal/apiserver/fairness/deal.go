package fairness

import "hash/maphash"

// maxHand bounds the cards of a hand. Validation allows 60 bits of entropy, which 15 cards out of 16 use up.
const maxHand = 15

// deal gives a flow its hand: distinct cards out of a deck, as the hash says. It reads the hash as a number whose digits have the
// bases deck, deck-1, …: each digit picks one of the cards that are left.
func deal(hash uint64, deck, size int, hand *[maxHand]int) []int {
	cards := hand[:0]
	for i := range size {
		left := uint64(deck - i)
		card := int(hash % left)
		hash /= left
		// The card is counted among those that are left: step over the ones that are gone, in ascending order.
		at := 0
		for at < len(cards) && card+at >= cards[at] {
			at++
		}
		card += at
		cards = append(cards, 0)
		copy(cards[at+1:], cards[at:])
		cards[at] = card
	}
	return cards
}

var flowSeed = maphash.MakeSeed()

// hashFlow is a number of a flow. It differs from process to process, so that nobody can choose names that share another's queues.
func hashFlow(schema, distinguisher string) uint64 {
	var h maphash.Hash
	h.SetSeed(flowSeed)
	_, _ = h.WriteString(schema)
	_ = h.WriteByte(0)
	_, _ = h.WriteString(distinguisher)
	return h.Sum64()
}
