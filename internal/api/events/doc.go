// Package events has the row of events.k8s.io Event, which shows the table of core events under other names and with stricter rules.
package events
