package fairness

import (
	"cmp"
	"errors"
	"math"
	"slices"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// A levelState is a level, with what its object gives it.
type levelState struct {
	*level
	object   *flowcontrolv1.PriorityLevelConfiguration
	retiring bool // its object is gone, its requests are not
	demand   demand
	backoff  *backoff

	// Seats: the share, the bounds, the current limit, and what the last adjustment aimed at.
	nominal, min, max, current int
	target                     float64
	// maxSeats bounds the seats of one request.
	maxSeats int
}

// maxSeatsFraction is the part of a level's seats that one request may take.
const maxSeatsFraction = 0.15

// digest takes a new configuration and returns the schemas' conditions that follow from it.
func (c *Controller) digest(levels []*flowcontrolv1.PriorityLevelConfiguration, schemas []*flowcontrolv1.FlowSchema) []condition {
	c.mu.Lock()
	defer c.mu.Unlock()
	desired := map[string]*flowcontrolv1.PriorityLevelConfiguration{}
	for _, l := range levels {
		if err := broken(l); err != nil {
			c.cfg.Logger.Warn("a priority level configuration is broken", "name", l.Name, "error", err)
			continue
		}
		desired[l.Name] = l
	}
	exists := func(name string) bool { return desired[name] != nil }
	conditions := danglingConditions(schemas, exists)
	for _, l := range mandatoryLevels() {
		if !exists(l.Name) {
			desired[l.Name] = l
			if have := c.levels[l.Name]; have != nil {
				desired[l.Name] = have.object
			}
		}
	}
	c.replaceLevels(desired)
	c.share()
	c.replaceSchemas(schemas)
	return conditions
}

// replaceLevels makes and changes levels. Those that nobody wants any more stay until their requests are served. c.mu is held.
func (c *Controller) replaceLevels(desired map[string]*flowcontrolv1.PriorityLevelConfiguration) {
	for name, object := range desired {
		state := c.levels[name]
		if state == nil {
			state = &levelState{level: newLevel(name, c.now), backoff: &backoff{}}
			c.levels[name] = state
		}
		state.object, state.retiring = object, false
		state.configure(queuingOf(object))
	}
	for name, state := range c.levels {
		if desired[name] != nil {
			continue
		}
		state.retiring = true
		if state.idle() {
			delete(c.levels, name)
		}
	}
}

// share divides the seats by the levels' shares. c.mu is held.
func (c *Controller) share() {
	sum := 0.0
	for _, s := range c.levels {
		shares, _, _ := terms(s.object)
		sum += float64(shares)
	}
	c.nominal = 0
	waiting := 0
	for _, s := range c.levels {
		shares, lendable, borrowing := terms(s.object)
		fresh := s.max == 0
		s.nominal = 0
		if sum > 0 {
			s.nominal = int(math.Ceil(float64(c.cfg.Seats) * float64(shares) / sum))
		}
		lends := int(math.Round(float64(s.nominal) * float64(lendable) / 100))
		s.min, s.max = s.nominal-lends, s.nominal+c.cfg.Seats
		if borrowing != nil {
			s.max = s.nominal + int(math.Round(float64(s.nominal)*float64(*borrowing)/100))
		}
		if fresh {
			s.current = s.nominal - lends/2
		}
		c.nominal += s.nominal
		q := queuingOf(s.object)
		waiting += q.deck * q.lengthLimit
		s.maxSeats = 0
		if q.deck > 0 {
			s.maxSeats = max(1, min(int(math.Ceil(float64(s.nominal)*maxSeatsFraction)), s.nominal/max(1, q.hand)))
		}
	}
	c.reading.scale(c.nominal, waiting, c.now())
	c.writing.scale(c.nominal, waiting, c.now())
	c.borrow()
}

// replaceSchemas publishes the schemas whose levels exist. c.mu is held.
func (c *Controller) replaceSchemas(objects []*flowcontrolv1.FlowSchema) {
	var schemas []*flowcontrolv1.FlowSchema
	for _, o := range objects {
		if s := c.levels[o.Spec.PriorityLevelConfiguration.Name]; s != nil && !s.retiring {
			schemas = append(schemas, o)
		}
	}
	slices.SortFunc(schemas, func(a, b *flowcontrolv1.FlowSchema) int {
		return cmp.Or(cmp.Compare(a.Spec.MatchingPrecedence, b.Spec.MatchingPrecedence), cmp.Compare(a.Name, b.Name))
	})
	named := func(name string) bool {
		return slices.ContainsFunc(schemas, func(s *flowcontrolv1.FlowSchema) bool { return s.Name == name })
	}
	if !named(flowcontrolv1.FlowSchemaNameExempt) {
		schemas = slices.Insert(schemas, 0, mandatorySchema(flowcontrolv1.FlowSchemaNameExempt, 1))
	}
	if !named(flowcontrolv1.FlowSchemaNameCatchAll) {
		schemas = append(schemas, mandatorySchema(flowcontrolv1.FlowSchemaNameCatchAll, 10000))
	}
	current := make([]*schema, len(schemas))
	last := -1
	for i, o := range schemas {
		current[i] = newSchema(o, c.levels[o.Spec.PriorityLevelConfiguration.Name])
		if o.Name == flowcontrolv1.FlowSchemaNameCatchAll {
			last = i
		}
	}
	// What nothing matches falls to the catch-all schema, even if others of the highest precedence come after it.
	if last != len(current)-1 {
		current = append(current, current[last])
	}
	c.current.Store(&current)
}

func newSchema(o *flowcontrolv1.FlowSchema, l *levelState) *schema {
	s := &schema{
		object: o, level: l.level, stats: l.statsOf(o.Name), queues: queuingOf(l.object).deck > 1, maxSeats: l.maxSeats, backoff: l.backoff,
		uid: []string{string(o.UID)}, levelUID: []string{string(l.object.UID)},
	}
	if o.Spec.DistinguisherMethod != nil {
		s.method = o.Spec.DistinguisherMethod.Type
	}
	return s
}

// broken tells what validation would not have let pass.
func broken(l *flowcontrolv1.PriorityLevelConfiguration) error {
	exempt := l.Spec.Type == flowcontrolv1.PriorityLevelEnablementExempt
	switch {
	case exempt != (l.Name == flowcontrolv1.PriorityLevelConfigurationNameExempt):
		return errors.New("name and type don't go together")
	case !exempt && l.Spec.Limited == nil:
		return errors.New("spec.limited is missing")
	case !exempt && (l.Spec.Limited.LimitResponse.Type == flowcontrolv1.LimitResponseTypeQueue) != (l.Spec.Limited.LimitResponse.Queuing != nil):
		return errors.New("spec.limited.limitResponse is no union")
	}
	return nil
}

func queuingOf(l *flowcontrolv1.PriorityLevelConfiguration) queuing {
	if l.Spec.Type == flowcontrolv1.PriorityLevelEnablementExempt {
		return queuing{exempt: true}
	}
	q := l.Spec.Limited.LimitResponse.Queuing
	if q == nil {
		return queuing{}
	}
	deck := max(1, int(q.Queues))
	return queuing{deck: deck, hand: min(max(1, int(q.HandSize)), deck, maxHand), lengthLimit: int(q.QueueLengthLimit)}
}

// terms are a level's share and what it lends and may borrow, in percent.
func terms(l *flowcontrolv1.PriorityLevelConfiguration) (shares, lendable int32, borrowing *int32) {
	if s := l.Spec.Limited; s != nil {
		return ptr.Deref(s.NominalConcurrencyShares, 30), ptr.Deref(s.LendablePercent, 0), s.BorrowingLimitPercent
	}
	if s := l.Spec.Exempt; s != nil {
		return ptr.Deref(s.NominalConcurrencyShares, 0), ptr.Deref(s.LendablePercent, 0), nil
	}
	return 0, 0, nil
}

// mandatoryLevels are the levels that exist even without objects.
func mandatoryLevels() []*flowcontrolv1.PriorityLevelConfiguration {
	return []*flowcontrolv1.PriorityLevelConfiguration{
		{
			ObjectMeta: metav1.ObjectMeta{Name: flowcontrolv1.PriorityLevelConfigurationNameExempt},
			Spec:       flowcontrolv1.PriorityLevelConfigurationSpec{Type: flowcontrolv1.PriorityLevelEnablementExempt},
		},
		{
			ObjectMeta: metav1.ObjectMeta{Name: flowcontrolv1.PriorityLevelConfigurationNameCatchAll},
			Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
				Type: flowcontrolv1.PriorityLevelEnablementLimited,
				Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
					NominalConcurrencyShares: ptr.To[int32](5),
					LimitResponse:            flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject},
				},
			},
		},
	}
}

// mandatorySchema is one of the two schemas that exist even without objects. The exempt one is for administrators.
func mandatorySchema(name string, precedence int32) *flowcontrolv1.FlowSchema {
	groups := []string{"system:unauthenticated", "system:authenticated"}
	if name == flowcontrolv1.FlowSchemaNameExempt {
		groups = []string{"system:masters"}
	}
	all := []string{"*"}
	rule := flowcontrolv1.PolicyRulesWithSubjects{
		ResourceRules:    []flowcontrolv1.ResourcePolicyRule{{Verbs: all, APIGroups: all, Resources: all, Namespaces: all, ClusterScope: true}},
		NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: all, NonResourceURLs: all}},
	}
	for _, g := range groups {
		rule.Subjects = append(rule.Subjects, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindGroup, Group: &flowcontrolv1.GroupSubject{Name: g}})
	}
	return &flowcontrolv1.FlowSchema{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: name}, MatchingPrecedence: precedence,
			DistinguisherMethod: &flowcontrolv1.FlowDistinguisherMethod{Type: flowcontrolv1.FlowDistinguisherMethodByUserType},
			Rules:               []flowcontrolv1.PolicyRulesWithSubjects{rule},
		},
	}
}
