// An OpenID Connect provider for the tests: npm's oidc-provider, with accounts of any name.
//   node provider.mjs FOLDER REDIRECT_URI    FOLDER holds node_modules; prints the issuer
import http from "node:http";
import { pathToFileURL } from "node:url";

const [folder, redirect] = process.argv.slice(2);
const { default: Provider } = await import(
  pathToFileURL(`${folder}/node_modules/oidc-provider/lib/index.js`));
const server = http.createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{ client_id: "wardround", client_secret: "a secret of the test", redirect_uris: [redirect] }],
    claims: { openid: ["sub"], email: ["email", "email_verified"], groups: ["groups"] },
    scopes: ["openid", "email", "groups"],
    pkce: { required: () => true, methods: ["S256"] },
    cookies: { keys: ["of the test"] },
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({
        sub: id,
        email: `${id}@example.org`,
        email_verified: !id.startsWith("unverified"),
        groups: ["staff", `group-of-${id}`],
      }),
    }),
  });
  server.on("request", provider.callback());
  console.log(issuer);
});
