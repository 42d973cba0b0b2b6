/* Search from file://, where browsers refuse workers: the script of a worker runs in a hidden frame. */
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = [] // messages until the script runs
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.append(this.frame)
      const inside = this.frame.contentWindow
      const load = name => new Promise((resolve, reject) => {
        const script = inside.document.createElement("script")
        script.src = name
        script.onload = resolve
        script.onerror = reject
        inside.document.body.append(script)
      })
      inside.importScripts = (...names) =>
        names.reduce((before, name) => before.then(() => load(name)), Promise.resolve())
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.send = data => inside.dispatchEvent(new MessageEvent("message", { data }))
      load(new URL(url, document.baseURI).href).then(() => {
        this.waiting.splice(0).forEach(this.send)
        this.waiting = null
      })
    }

    postMessage(data) {
      this.waiting ? this.waiting.push(data) : this.send(data)
    }

    terminate() {
      this.frame.remove()
    }
  }
  window.Worker = window.IFrameWorker
}
