// Package webhook lets another server say whose bearer token something is.
//
//	w := webhook.New(reviewer, webhook.Config{Version: "v1", CacheTTL: 2 * time.Minute, Audiences: own})
//	resp, ok, err := w.AuthenticateToken(ctx, token)
//
// What flows in are tokens that no other method recognizes. They flow out as TokenReviews, and answers come back, which are remembered for a
// while. One question about a token is asked at a time. What is remembered is bounded.
package webhook
