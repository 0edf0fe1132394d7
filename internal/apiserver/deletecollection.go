package apiserver

import (
	"context"
	"net/http"
	"strings"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/apiserver/request"
)

// collectionWorkers is how many objects of a collection are deleted at once.
const collectionWorkers = 4

func (s *Server) serveDeleteCollection(w http.ResponseWriter, r *http.Request, v *version, info *request.Info) error {
	media, ok := negotiate.Output(r, negotiate.Any)
	if !ok {
		return negotiate.NotAcceptable(negotiate.Any)
	}
	lo, err := listOptions(r)
	if err != nil {
		return err
	}
	t := target{v: v, namespace: info.Namespace}
	c, err := t.chosen(lo)
	if err != nil {
		return err
	}
	o, err := s.deleteOptions(r)
	if err != nil {
		return err
	}
	p, err := s.removeCollection(r.Context(), t, c, lo, o)
	if err != nil {
		return err
	}
	return s.sendPage(w, r, v, p, media)
}

// chosen is what of a collection a list finds.
func (t target) chosen(lo *metav1.ListOptions) (choice, error) {
	if err := checkListOptions(lo); err != nil {
		return choice{}, err
	}
	return newChoice(t.v, t.namespace, lo.LabelSelector, lo.FieldSelector)
}

// removeCollection deletes what a list finds, and returns that.
func (s *Server) removeCollection(ctx context.Context, t target, c choice, lo *metav1.ListOptions, o *metav1.DeleteOptions) (*page, error) {
	p, err := s.list(ctx, t.v, c, lo)
	if err != nil {
		return nil, err
	}
	warnOfOrphans(ctx, t.v.row, o)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(collectionWorkers)
	for _, e := range p.entries {
		g.Go(func() error {
			namespace, name, found := strings.Cut(e.Key(), "/")
			if !found {
				namespace, name = "", e.Key()
			}
			_, err := s.remove(gctx, target{v: t.v, namespace: namespace, name: name}, o.DeepCopy())
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		})
	}
	return p, g.Wait()
}
