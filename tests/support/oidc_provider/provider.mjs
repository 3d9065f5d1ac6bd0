// A provider for the tests of OAuth connections: oidc-provider with everything on that Coffer speaks to. It is told what to
// be on its standard input, one line of JSON, and tells on its standard output, a line of JSON each, where it listens and
// what happens at it, never with a token. It ends with its standard input. tests/support/real_provider.py starts it, and names
// the folder that oidc-provider is installed in.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const { Provider } = await import(pathToFileURL(`${process.argv[2]}/node_modules/oidc-provider/lib/index.js`));

const SCOPES = ['openid', 'offline_access', 'read', 'write'];
const EVENTS = ['grant.success', 'grant.error', 'grant.revoked', 'authorization.success', 'authorization.error',
  'revocation.error', 'introspection.error', 'registration_create.success', 'server_error'];

// Its warnings would stand among what is told.
console.info = console.error;
console.warn = console.error;

const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

// Everything in memory and nothing forgotten: the adapter that comes with it keeps a thousand artifacts.
class Memory {
  static all = new Map();

  static byUid = new Map();

  static byCode = new Map();

  static ofGrant = new Map();

  constructor(model) { this.model = model; }

  key(id) { return `${this.model}:${id}`; }

  async upsert(id, payload) {
    const key = this.key(id);
    Memory.all.set(key, { ...payload });
    if (payload.uid) Memory.byUid.set(payload.uid, key);
    if (payload.userCode) Memory.byCode.set(payload.userCode, key);
    if (payload.grantId) Memory.ofGrant.set(payload.grantId, (Memory.ofGrant.get(payload.grantId) ?? new Set()).add(key));
  }

  async find(id) { return Memory.all.get(this.key(id)); }

  async findByUid(uid) { return Memory.all.get(Memory.byUid.get(uid)); }

  async findByUserCode(code) { return Memory.all.get(Memory.byCode.get(code)); }

  async destroy(id) { Memory.all.delete(this.key(id)); }

  async consume(id) { Memory.all.get(this.key(id)).consumed = Math.floor(Date.now() / 1000); }

  async revokeByGrantId(grantId) {
    for (const key of Memory.ofGrant.get(grantId) ?? []) Memory.all.delete(key);
    Memory.ofGrant.delete(grantId);
  }
}

// What is signed with is new each time.
function signingKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: 'test', use: 'sig', alg: 'RS256' };
}

function configuration(told) {
  const life = (usual) => (ctx, token, client) => client?.token_life ?? told.token_life ?? usual;
  return {
    adapter: Memory,
    clients: told.clients ?? [],
    jwks: { keys: [signingKey()] },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    scopes: SCOPES,
    clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt'],
    extraClientMetadata: { properties: ['token_life'] },
    findAccount: (ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    pkce: { required: () => true },
    issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: true, // and who uses an old one again loses the grant, which is always so
    ttl: { AccessToken: life(3600), ClientCredentials: life(3600), RefreshToken: 86400, DeviceCode: 600 },
    features: {
      devInteractions: { enabled: true },
      deviceFlow: { enabled: true },
      clientCredentials: { enabled: true },
      revocation: { enabled: true, allowedPolicy: () => true },
      introspection: { enabled: true, allowedPolicy: () => true },
      registration: { enabled: true, initialAccessToken: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: (ctx, client, oneOf) => oneOf ?? [],
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource) => ({ scope: 'read write', audience: resource, accessTokenFormat: 'opaque' }),
      },
    },
  };
}

// Who did what. A refresh token that is used again ends its grant, which the error's detail says.
function listen(provider) {
  for (const event of EVENTS) {
    provider.on(event, (ctx, problem) => tell({
      event,
      client: ctx?.oidc?.client?.clientId,
      grant: ctx?.oidc?.params?.grant_type,
      error: problem?.error,
      detail: problem?.error_detail ?? problem?.message,
    }));
  }
}

// Its pages want a font of another host.
async function stayHere(ctx, next) {
  await next();
  if (typeof ctx.body === 'string') ctx.body = ctx.body.replace(/@import url\([^)]*\);?/g, '');
}

function serve(told) {
  const server = createServer({ cert: readFileSync(told.certificate), key: readFileSync(told.key) });
  server.listen(told.port ?? 0, '127.0.0.1', () => {
    const { port } = server.address();
    const provider = new Provider(`https://localhost:${port}`, configuration(told));
    provider.use(stayHere);
    listen(provider);
    server.on('request', provider.callback());
    tell({ event: 'ready', port });
  });
}

const input = createInterface({ input: process.stdin });
input.once('line', (line) => serve(JSON.parse(line)));
input.once('close', () => process.exit(0));
