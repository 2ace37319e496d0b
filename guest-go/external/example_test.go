package external_test

import (
	"fmt"
	"net/http"

	"github.com/wasmop/wasmop/guest-go/external"
)

func ExampleTransport() {
	client := &http.Client{Transport: external.Transport{}}
	response, err := client.Get("https://api.example.com/v1/things")
	if err != nil {
		return
	}
	defer response.Body.Close()
	fmt.Println(response.StatusCode)
}
