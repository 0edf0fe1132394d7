// Package servicecidr tells whether ranges of Service addresses are ready for use, and holds them as long as addresses of theirs are in use.
//
// In flow ServiceCIDRs and IPAddresses; out flow the ServiceCIDRs' condition Ready and their finalizer.
package servicecidr
