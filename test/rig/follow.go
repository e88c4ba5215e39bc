package rig

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Follow holds the stream of events of an open page until ctx ends or the box goes.
func (p *Page) Follow(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Box.PageAddress+"/events", nil)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// TryRegister is Register at a box that may be down.
func (p *Page) TryRegister(given, family string) (id string, err error) {
	a, err := p.Get("/register")
	if err != nil {
		return "", err
	}
	v := HiddenOf(a.Body)
	for name, value := range map[string]string{"given": given, "family": family, "sex": "female", "ageYears": "30", "village": "Kibuye", "step": "another"} {
		v.Set(name, value)
	}
	if a, err = p.Post("/register", v); err != nil {
		return "", err
	}
	to, ok := strings.CutPrefix(a.Location, "/patient/")
	id, done, _ := strings.Cut(to, "?")
	if !ok || done != "done=registered" {
		return "", fmt.Errorf("registering: status %d to %q: %s", a.Status, a.Location, Words(a.Body))
	}
	return id, nil
}
