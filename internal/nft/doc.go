// Package nft is a small vocabulary over github.com/google/nftables: the matches and statements that
// Clipper's tables are written in, and a connection that commits them as transactions.
//
//	conn, err := nft.Open()
//	table := conn.AddTable(&nftables.Table{Name: "clipper", Family: nftables.TableFamilyINet})
//	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: nft.Rule(
//		nft.IPv4.SaddrIn(podCIDR), nft.Masquerade())})
//	err = conn.Commit()
//
// A statement is a list of kernel expressions; Rule joins statements. Statements use registers from
// the first on and leave nothing in them that a later statement relies on, unless their comment says so.
package nft
