// Package certificates holds the rows of certificates.k8s.io: requests for certificates. Who may approve and sign them is
// checked by admission; controllers do both.
package certificates
