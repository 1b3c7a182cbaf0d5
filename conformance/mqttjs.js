// MQTT.js over WebSocket: each protocol level and QoS, a session that lasts, and a
// connection that breaks in the middle of exchanges at QoS 2.
// Usage: node mqttjs.js ws://127.0.0.1:8083/mqtt
const mqtt = require('mqtt')
const assert = require('assert')

const url = process.argv[2]

// connect opens one connection; messages() gives what has come once there are n.
async function connect (options) {
  const client = mqtt.connect(url, { reconnectPeriod: 0, connectTimeout: 5000, ...options })
  const got = []
  let wake = () => {}
  client.on('message', (topic, payload, packet) => { got.push({ topic, payload: String(payload), packet }); wake() })
  const connack = await new Promise((resolve, reject) => {
    client.once('connect', resolve)
    client.once('error', reject)
    client.once('close', () => reject(new Error('the connection was closed')))
  })
  const messages = async (n) => {
    while (got.length < n) await new Promise((resolve) => { wake = resolve })
    return got
  }
  return { client, connack, messages }
}

async function level (protocolVersion) {
  const five = protocolVersion === 5
  const lasting = { protocolVersion, clientId: 'js-' + protocolVersion, clean: false, protocolId: protocolVersion === 3 ? 'MQIsdp' : 'MQTT' }
  if (five) lasting.properties = { sessionExpiryInterval: 600 }
  const topic = 'js/' + protocolVersion
  const first = await connect(lasting)
  const granted = await first.client.subscribeAsync(topic, { qos: 2 })
  assert.strictEqual(granted[0].qos, 2)
  for (const qos of [0, 1, 2]) {
    const options = { qos }
    if (five) options.properties = { contentType: 'text/plain', userProperties: { k: ['1', '2'] } }
    await first.client.publishAsync(topic, 'm' + qos, options)
    const m = (await first.messages(qos + 1))[qos]
    assert.deepStrictEqual([m.topic, m.payload, m.packet.qos], [topic, 'm' + qos, qos])
    if (five) {
      assert.strictEqual(m.packet.properties.contentType, 'text/plain')
      assert.deepStrictEqual([...m.packet.properties.userProperties.k], ['1', '2'])
    }
  }
  await first.client.endAsync()
  const other = await connect({ protocolVersion: 4 })
  await other.client.publishAsync(topic, 'missed', { qos: 1 })
  await other.client.endAsync()
  const again = await connect(lasting)
  if (protocolVersion > 3) assert.strictEqual(again.connack.sessionPresent, true)
  assert.strictEqual((await again.messages(1))[0].payload, 'missed')
  await again.client.endAsync()
  console.log('ok', protocolVersion)
}

// breaks loses its connection at every third message, before it is acknowledged; MQTT.js connects again by
// itself, with its session. Each message comes once, and in order.
async function breaks (protocolVersion) {
  const lasting = { protocolVersion, clientId: 'js-breaks-' + protocolVersion, clean: false, reconnectPeriod: 50 }
  if (protocolVersion === 5) lasting.properties = { sessionExpiryInterval: 600, receiveMaximum: 5 }
  const topic = 'js/breaks/' + protocolVersion
  const { client, messages } = await connect(lasting)
  const present = []
  client.on('connect', (connack) => present.push(connack.sessionPresent))
  await client.subscribeAsync(topic, { qos: 2 })
  const broken = new Set()
  client.on('packetreceive', ({ cmd, payload }) => {
    if (cmd !== 'publish' || payload % 3 !== 0 || broken.has(+payload)) return
    broken.add(+payload)
    client.stream.destroy()
  })
  const other = await connect({ protocolVersion })
  const want = [...Array(30).keys()].map(String)
  await Promise.all(want.map((m) => other.client.publishAsync(topic, m, { qos: 2 })))
  await other.client.publishAsync(topic, 'end', { qos: 2 })
  const got = (await messages(31)).map((m) => m.payload)
  assert.deepStrictEqual(got, [...want, 'end'])
  assert(present.length > 0 && present.every(Boolean), 'reconnects: ' + present)
  await client.endAsync()
  await other.client.endAsync()
  console.log('ok breaks', protocolVersion)
}

setTimeout(() => { console.error('it takes too long'); process.exit(1) }, 20000).unref()
level(3).then(() => level(4)).then(() => level(5)).then(() => breaks(4)).then(() => breaks(5)).catch((e) => { console.error(e); process.exit(1) })
