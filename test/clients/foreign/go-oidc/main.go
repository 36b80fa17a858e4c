package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

func main() {
	ctx := context.Background()
	base := os.Getenv("BASE")
	provider, err := oidc.NewProvider(ctx, os.Getenv("ISSUER"))
	if err != nil {
		log.Fatal(err)
	}
	config := oauth2.Config{
		ClientID:     os.Getenv("CLIENT_ID"),
		ClientSecret: os.Getenv("CLIENT_SECRET"),
		Endpoint:     provider.Endpoint(),
		RedirectURL:  base + "/callback",
		Scopes:       []string{oidc.ScopeOpenID, "email"},
	}
	verifier := provider.Verifier(&oidc.Config{ClientID: config.ClientID})
	pkce := oauth2.GenerateVerifier()
	var token *oauth2.Token
	var idToken string

	http.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, config.AuthCodeURL("state", oauth2.S256ChallengeOption(pkce)), http.StatusFound)
	})
	http.HandleFunc("/callback", func(w http.ResponseWriter, r *http.Request) {
		var err error
		token, err = config.Exchange(ctx, r.URL.Query().Get("code"), oauth2.VerifierOption(pkce))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		idToken, _ = token.Extra("id_token").(string)
		if _, err := verifier.Verify(ctx, idToken); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		http.Redirect(w, r, "/user", http.StatusFound)
	})
	http.HandleFunc("/user", func(w http.ResponseWriter, r *http.Request) {
		claims := map[string]any{}
		info, err := provider.UserInfo(ctx, config.TokenSource(ctx, token))
		if err == nil {
			err = info.Claims(&claims)
		}
		answer(w, claims, err)
	})
	http.HandleFunc("/refresh", func(w http.ResponseWriter, r *http.Request) {
		expired := &oauth2.Token{RefreshToken: token.RefreshToken, Expiry: time.Now().Add(-time.Hour)}
		fresh, err := config.TokenSource(ctx, expired).Token()
		if err == nil {
			token = fresh
		}
		answer(w, map[string]any{"access_token": token.AccessToken}, err)
	})
	http.HandleFunc("/logout", func(w http.ResponseWriter, r *http.Request) {
		var metadata struct {
			EndSession string `json:"end_session_endpoint"`
		}
		if err := provider.Claims(&metadata); err != nil {
			answer(w, nil, err)
			return
		}
		query := url.Values{"id_token_hint": {idToken}, "post_logout_redirect_uri": {base + "/bye"}}
		http.Redirect(w, r, metadata.EndSession+"?"+query.Encode(), http.StatusFound)
	})
	http.HandleFunc("/bye", func(w http.ResponseWriter, r *http.Request) { answer(w, map[string]any{}, nil) })
	log.Fatal(http.ListenAndServe("localhost:"+os.Getenv("PORT"), nil))
}

func answer(w http.ResponseWriter, body map[string]any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("content-type", "application/json")
	json.NewEncoder(w).Encode(body)
}
