package servicecidr

import (
	"net/netip"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestARangeIsHeldByAddressesThatNoOtherHas(t *testing.T) {
	cidr := func(name string, list ...string) *networkingv1.ServiceCIDR {
		return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: list}}
	}
	leaving := cidr("leaving", "10.0.0.0/24")
	also := cidr("also", "10.0.0.0/16")
	now := metav1.Now()
	also.DeletionTimestamp = &now
	for name, test := range map[string]struct {
		others []*networkingv1.ServiceCIDR
		used   string
		want   bool
	}{
		"an address of its own holds it":                   {used: "10.0.0.5", want: true},
		"an address of another range doesn't":              {used: "10.9.0.5"},
		"an address that another range has too doesn't":    {others: []*networkingv1.ServiceCIDR{cidr("other", "10.0.0.0/8")}, used: "10.0.0.5"},
		"a range that is itself on its way out is no help": {others: []*networkingv1.ServiceCIDR{also}, used: "10.0.0.5", want: true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := held(leaving, append(test.others, leaving), []netip.Addr{netip.MustParseAddr(test.used)}); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
