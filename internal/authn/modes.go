package authn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// mode is one way of acting as somebody else (KEP-5284). In the constrained ones, the requestor needs leave to impersonate the user, by the verb
// impersonate:<mode>, and leave to do in that mode what the request does, by impersonate-on:<mode>:<verb>.
type mode struct {
	name    string // "" is impersonation of old
	applies func(wanted *user.DefaultInfo, requestor user.Info) bool
}

var modes = []mode{
	{"associated-node", func(w *user.DefaultInfo, requestor user.Info) bool {
		node, ok := nodeOf(w.Name)
		if _, _, err := serviceaccount.SplitUsername(requestor.GetName()); err != nil {
			return false
		}
		own := requestor.GetExtra()[serviceaccount.NodeNameKey]
		return ok && onlyNamed(w) && len(own) == 1 && own[0] == node
	}},
	{"arbitrary-node", func(w *user.DefaultInfo, _ user.Info) bool {
		_, ok := nodeOf(w.Name)
		return ok && onlyNamed(w)
	}},
	{"serviceaccount", func(w *user.DefaultInfo, _ user.Info) bool {
		_, _, err := serviceaccount.SplitUsername(w.Name)
		return err == nil && onlyNamed(w)
	}},
	{"user-info", func(w *user.DefaultInfo, _ user.Info) bool {
		_, node := nodeOf(w.Name)
		_, _, err := serviceaccount.SplitUsername(w.Name)
		return !node && err != nil
	}},
	{"", func(*user.DefaultInfo, user.Info) bool { return true }},
}

func onlyNamed(u *user.DefaultInfo) bool {
	return u.UID == "" && len(u.Groups) == 0 && len(u.Extra) == 0
}

// nodeOf is the node whose user has that name.
func nodeOf(name string) (string, bool) {
	node, ok := strings.CutPrefix(name, "system:node:")
	return node, ok && len(validation.IsDNS1123Subdomain(node)) == 0
}

// label is what metrics call the mode.
func (m mode) label() string { return cmp.Or(m.name, "legacy") }

func (m mode) constrained() bool { return m.name != "" }

// constraint is the verb that gives leave to impersonate in a constrained mode.
func (m mode) constraint() string {
	if !m.constrained() {
		return ""
	}
	return "impersonate:" + m.name
}

func (m mode) check(ctx context.Context, az authorizer.Authorizer, wanted *user.DefaultInfo, request authorizer.Attributes) (user.Info, error) {
	if m.name == "associated-node" {
		request = anyNode{request}
	}
	if m.constrained() {
		if err := allowed(ctx, az, onVerb{request, "impersonate-on:" + m.name + ":" + request.GetVerb()}); err != nil {
			return nil, err
		}
	}
	c := check{mode: m, ctx: ctx, az: az, requestor: request.GetUser()}
	as := *wanted
	if err := c.name(&as); err != nil {
		return nil, err
	}
	for _, ask := range []func(*user.DefaultInfo) error{c.uid, c.groups, c.extra} {
		if err := ask(wanted); err != nil {
			return nil, err
		}
	}
	as.Groups = withImplied(as.Name, slices.Clone(as.Groups))
	return &as, nil
}

// onVerb are a request's attributes with another verb.
type onVerb struct {
	authorizer.Attributes
	verb string
}

func (o onVerb) GetVerb() string { return o.verb }

// anyNode are a request's attributes without what tells on which node its service account runs: leave is given for all nodes alike.
type anyNode struct{ authorizer.Attributes }

func (a anyNode) GetUser() user.Info { return nodeless{a.Attributes.GetUser()} }

type nodeless struct{ user.Info }

func (n nodeless) GetExtra() map[string][]string {
	return map[string][]string{"authentication.kubernetes.io/associated-node-keys": slices.Sorted(maps.Keys(n.Info.GetExtra()))}
}

// check asks for each thing that a user is made of.
type check struct {
	mode
	ctx       context.Context
	az        authorizer.Authorizer
	requestor user.Info
}

func (c check) attributes(gv schema.GroupVersion, resource, name string) authorizer.AttributesRecord {
	verb := "impersonate"
	if c.constrained() {
		verb = c.constraint()
		gv = authenticationv1.SchemeGroupVersion
	}
	return authorizer.AttributesRecord{User: c.requestor, Verb: verb, APIGroup: gv.Group, APIVersion: gv.Version, Resource: resource, Name: name, ResourceRequest: true}
}

func (c check) name(as *user.DefaultInfo) error {
	a := c.attributes(corev1.SchemeGroupVersion, "users", as.Name)
	if node, ok := nodeOf(as.Name); ok && c.constrained() {
		a.Resource, a.Name, as.Groups = "nodes", node, []string{user.NodesGroup}
		if c.mode.name == "associated-node" {
			a.Name = "*"
		}
		return allowed(c.ctx, c.az, a)
	}
	if ns, name, err := serviceaccount.SplitUsername(as.Name); err == nil {
		a.Resource, a.Namespace, a.Name = "serviceaccounts", ns, name
		if err := allowed(c.ctx, c.az, a); err != nil {
			return err
		}
		if len(as.Groups) == 0 {
			as.Groups = serviceaccount.MakeGroupNames(ns)
		}
		return nil
	}
	return allowed(c.ctx, c.az, a)
}

func (c check) uid(as *user.DefaultInfo) error {
	if as.UID == "" {
		return nil
	}
	return allowed(c.ctx, c.az, c.attributes(authenticationv1.SchemeGroupVersion, "uids", as.UID))
}

// manyQuestions is from how many on leave for all is asked for first.
const manyQuestions = 4

// groups asks for those that were wanted, not for those that follow from the name.
func (c check) groups(as *user.DefaultInfo) error {
	if len(as.Groups) == 0 {
		return nil
	}
	a := c.attributes(corev1.SchemeGroupVersion, "groups", "")
	if c.constrained() {
		if slices.Contains(as.Groups, "") {
			return refused(a, "impersonating the empty string group is not allowed")
		}
		if slices.Contains(as.Groups, user.SystemPrivilegedGroup) {
			a.Name = user.SystemPrivilegedGroup
			return refused(a, "impersonating the system:masters group is not allowed")
		}
		if len(as.Groups) >= manyQuestions {
			a.Name = "*"
			if allowed(c.ctx, c.az, a) == nil {
				return nil
			}
		}
	}
	for _, a.Name = range as.Groups {
		if err := allowed(c.ctx, c.az, a); err != nil {
			return err
		}
	}
	return nil
}

func (c check) extra(as *user.DefaultInfo) error {
	if len(as.Extra) == 0 {
		return nil
	}
	a := c.attributes(authenticationv1.SchemeGroupVersion, "userextras", "")
	if c.constrained() {
		if err := validateExtra(as.Extra); err != nil {
			return refused(a, err.Error())
		}
		values := 0
		for _, v := range as.Extra {
			values += len(v)
		}
		if values >= manyQuestions || len(as.Extra) >= manyQuestions {
			a.Subresource, a.Name = "*", "*"
			if allowed(c.ctx, c.az, a) == nil {
				return nil
			}
		}
	}
	for _, a.Subresource = range slices.Sorted(maps.Keys(as.Extra)) {
		for _, a.Name = range as.Extra[a.Subresource] {
			if err := allowed(c.ctx, c.az, a); err != nil {
				return err
			}
		}
	}
	return nil
}

func validateExtra(extra map[string][]string) error {
	for key, values := range extra {
		if key == "" {
			return errors.New("impersonating the empty string key in extra is not allowed")
		}
		if errs := validation.IsDomainPrefixedPath(field.NewPath("extra", "key"), key); len(errs) > 0 {
			return fmt.Errorf("impersonating an invalid key in extra is not allowed: %w", errs.ToAggregate())
		}
		if key != strings.ToLower(key) {
			return fmt.Errorf("impersonating a non-lowercase key in extra is not allowed: %q", key)
		}
		if len(values) == 0 {
			return errors.New("impersonating empty values in extra is not allowed")
		}
		if slices.Contains(values, "") {
			return errors.New("impersonating the empty string value in extra is not allowed")
		}
	}
	return nil
}
