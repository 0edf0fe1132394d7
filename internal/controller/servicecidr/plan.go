package servicecidr

import (
	"net/netip"

	networkingv1 "k8s.io/api/networking/v1"
)

const (
	finalizer    = "networking.k8s.io/service-cidr-finalizer"
	readyMessage = "Kubernetes Service CIDR is ready"
	heldReason   = "Terminating"
	heldMessage  = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
)

// prefixes parses a ServiceCIDR's ranges.
func prefixes(s *networkingv1.ServiceCIDR) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range s.Spec.CIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// held tells whether an address in use lies in the range and in no other that stays.
func held(s *networkingv1.ServiceCIDR, all []*networkingv1.ServiceCIDR, used []netip.Addr) bool {
	var others []netip.Prefix
	for _, o := range all {
		if o.Name != s.Name && o.DeletionTimestamp == nil {
			others = append(others, prefixes(o)...)
		}
	}
	own := prefixes(s)
	for _, a := range used {
		if contains(own, a) && !contains(others, a) {
			return true
		}
	}
	return false
}
